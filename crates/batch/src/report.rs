//! The result of a batch.

use onnxseal_core::{ErrorKind, FileState, Volume};
use serde::Serialize;

use crate::error::Error;

/// The result of a batch.
///
/// Serialises to the JSON of `onnxseal batch --report`; members are only ever added.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `protect`, `unprotect`, `rekey`, `rotate` or `verify`.
    pub operation: &'static str,
    /// The part of the batch, such as `0/4`; absent for a whole batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// Whether some models did not begin, because one failed or the user asked to stop.
    pub stopped: bool,
    /// Whether all outputs are synced to the disk; absent if that was not requested, and in an
    /// object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synced: Option<bool>,
    /// The sums over all models.
    pub totals: Totals,
    /// The models, by path.
    pub models: Vec<ModelReport>,
    /// Why the outputs could not be synced.
    #[serde(skip)]
    pub sync_error: Option<Error>,
}

/// The result of a model.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// Path or URL of the model.
    pub source: String,
    /// Path or URL of its output; absent if the operation has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The outcome.
    pub outcome: Outcome,
    /// Length of all its files in bytes, as far as known.
    pub bytes: u64,
    /// How much of its weights is encrypted; absent if the operation does not examine them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Volume>,
    /// Duration in seconds.
    pub seconds: f64,
    /// The files that were read, the model file first; empty if it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input_files: Vec<FileState>,
    /// The files that were written, the model file first; empty if it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output_files: Vec<FileState>,
    /// The failure, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// The result of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The operation was done.
    Done,
    /// An earlier run did it, and nothing has changed since.
    Skipped,
    /// It failed; its outputs are as they were before.
    Failed,
    /// It did not begin, because the batch was stopped.
    Pending,
}

/// The failure of a model.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The class of the error.
    pub class: ErrorKind,
    /// The error with its causes.
    pub message: String,
    /// The error itself.
    #[serde(skip)]
    pub error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Failure {
            class: error.kind(),
            message,
            error,
        }
    }
}

/// The sums over a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Number of models.
    pub models: usize,
    /// How many were done.
    pub done: usize,
    /// How many an earlier run had done.
    pub skipped: usize,
    /// How many failed.
    pub failed: usize,
    /// How many did not begin.
    pub pending: usize,
    /// Length of the files of the done models, in bytes.
    pub bytes: u64,
    /// Duration of the batch in seconds.
    pub seconds: f64,
}

impl Totals {
    pub(crate) fn of(models: &[ModelReport], seconds: f64) -> Totals {
        let mut totals = Totals {
            models: models.len(),
            seconds,
            ..Totals::default()
        };
        for model in models {
            match model.outcome {
                Outcome::Done => totals.done += 1,
                Outcome::Skipped => totals.skipped += 1,
                Outcome::Failed => totals.failed += 1,
                Outcome::Pending => totals.pending += 1,
            }
            if model.outcome == Outcome::Done {
                totals.bytes = totals.bytes.saturating_add(model.bytes);
            }
        }
        totals
    }
}
