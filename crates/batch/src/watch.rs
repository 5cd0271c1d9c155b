//! Receives the progress of a batch.

use onnxseal_core::{Progress, Silent};

use crate::discover::Found;
use crate::report::ModelReport;

/// Observes a batch; several threads call it.
pub trait Watch: Sync {
    /// The batch begins, with `models` models of `bytes` bytes in total.
    fn begin(&self, _models: usize, _bytes: u64) {}

    /// A model of `bytes` bytes begins. The result receives its progress.
    fn model<'w>(&'w self, _found: &Found, _bytes: u64) -> Box<dyn Progress + 'w> {
        Box::new(Silent)
    }

    /// A model has ended.
    fn finished(&self, _found: &Found, _report: &ModelReport) {}

    /// Something that is not a failure, but worth telling.
    fn note(&self, _text: &str) {}

    /// Returns whether to stop beginning models.
    fn stops(&self) -> bool {
        false
    }
}

impl Watch for Silent {}
