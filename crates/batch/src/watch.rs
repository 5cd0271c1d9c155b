//! What a batch tells while it runs.

use onnxseal_core::{Progress, Silent};

use crate::discover::Found;
use crate::report::ModelReport;

/// Told how far a batch is; called from several threads.
pub trait Watch: Sync {
    /// So many `models` of so many `bytes` in all will be looked at.
    fn begin(&self, models: usize, bytes: u64) {
        let _ = (models, bytes);
    }

    /// A model of so many `bytes` begins; the result is told how far it is.
    fn model<'w>(&'w self, found: &Found, bytes: u64) -> Box<dyn Progress + 'w> {
        let _ = (found, bytes);
        Box::new(Silent)
    }

    /// A model has come to its end.
    fn finished(&self, found: &Found, report: &ModelReport) {
        let _ = (found, report);
    }

    /// Something that is no failure, but should be known.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// Whether to begin no more models.
    fn stops(&self) -> bool {
        false
    }
}

impl Watch for Silent {}
