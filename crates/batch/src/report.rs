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
    pub totals: Totals,
    /// The models, by path.
    pub models: Vec<ModelReport>,
    /// Why the outputs could not be synced.
    #[serde(skip)]
    pub sync_error: Option<Error>,
}

#[derive(Debug, Serialize)]
pub struct ModelReport {
    /// Path or URL of the model.
    pub source: String,
    /// Path or URL of its output; absent if the operation has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    pub outcome: Outcome,
    /// Length of all its files in bytes, as far as known.
    pub bytes: u64,
    /// How much of its weights is encrypted; absent if the operation does not examine them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Volume>,
    /// The claim that keeps the model from opening now, `not-before` or `not-after`; absent if none
    /// does, and for other operations than `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_in_force: Option<&'static str>,
    pub seconds: f64,
    /// The files that were read, the model file first; empty if it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub input_files: Vec<FileState>,
    /// The files that were written, the model file first; empty if it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output_files: Vec<FileState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// An earlier run did it, and nothing has changed since.
    Skipped,
    /// Its outputs are as they were before.
    Failed,
    /// It did not begin, because the batch was stopped.
    Pending,
}

#[derive(Debug, Serialize)]
pub struct Failure {
    pub class: ErrorKind,
    /// The error with its causes.
    pub message: String,
    #[serde(skip)]
    pub error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Failure {
            class: error.kind(),
            message,
            error,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    pub models: usize,
    pub done: usize,
    pub skipped: usize,
    pub failed: usize,
    pub pending: usize,
    /// Length of the files of the done models, in bytes.
    pub bytes: u64,
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
