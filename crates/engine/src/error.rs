//! Errors of runs.

use std::path::PathBuf;

use onnxseal_store::ErrorKind;

/// An error of running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the data have nothing for input {input:?} of the model; they have {given}")]
    MissingInput { input: String, given: String },
    #[error("input {input:?} of the model takes {wanted}; a sample of the data is {given}")]
    Fit {
        input: String,
        wanted: String,
        given: String,
    },
    #[error("ONNX Runtime was not found: {tried}")]
    NoLibrary { tried: String },
    #[error("ONNX Runtime in {} cannot be used: {reason}", .path.display())]
    Library { path: PathBuf, reason: String },
    /// ONNX Runtime does not run the model, and names the operator at fault in some cases.
    #[error("ONNX Runtime cannot run {model}{}: {reason}", in_operator(.operator))]
    Run {
        model: String,
        operator: Option<String>,
        reason: String,
    },
    /// The caller of [`Engine::unless`](crate::Engine::unless) cancelled the run.
    #[error("cancelled")]
    Cancelled,
    #[error("output {output:?} of the model {reason}")]
    Output { output: String, reason: String },
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoLibrary { .. } | Error::Library { .. } | Error::Run { .. } => {
                ErrorKind::Runtime
            }
            Error::MissingInput { .. }
            | Error::Fit { .. }
            | Error::Cancelled
            | Error::Output { .. } => ErrorKind::Usage,
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

fn in_operator(operator: &Option<String>) -> String {
    operator
        .as_ref()
        .map_or_else(String::new, |name| format!(", operator {name}"))
}
