//! Receives the progress of a batch.

use onnxseal_core::{Progress, Silent};

use crate::discover::Found;
use crate::report::ModelReport;

/// Observes a batch; several threads call it.
pub trait Watch: Sync {
    /// The batch begins, with `models` models of `bytes` bytes in total.
    fn begin(&self, models: usize, bytes: u64) {
        let _ = (models, bytes);
    }

    /// A model of `bytes` bytes begins. The result receives its progress.
    fn model<'w>(&'w self, found: &Found, bytes: u64) -> Box<dyn Progress + 'w> {
        let _ = (found, bytes);
        Box::new(Silent)
    }

    /// A model has ended.
    fn finished(&self, found: &Found, report: &ModelReport) {
        let _ = (found, report);
    }

    /// Something that is not a failure, but worth telling.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// Returns whether to stop beginning models.
    fn stops(&self) -> bool {
        false
    }
}

impl Watch for Silent {}
