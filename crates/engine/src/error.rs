//! Errors of runs.

use std::path::PathBuf;

use onnxseal_store::ErrorKind;

/// An error of running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data lack an array for an input of the model.
    #[error("the data have nothing for input {input:?} of the model; they have {given}")]
    MissingInput {
        /// The input.
        input: String,
        /// The names of the data's arrays.
        given: String,
    },
    /// The data do not fit an input of the model.
    #[error("input {input:?} of the model takes {wanted}; a sample of the data is {given}")]
    Fit {
        /// The input.
        input: String,
        /// Its element type and shape.
        wanted: String,
        /// Element type and shape of a sample.
        given: String,
    },
    /// ONNX Runtime was not found.
    #[error("ONNX Runtime was not found: {tried}")]
    NoLibrary {
        /// Where it was searched.
        tried: String,
    },
    /// ONNX Runtime's library cannot be used.
    #[error("ONNX Runtime in {} cannot be used: {reason}", .path.display())]
    Library {
        /// The library.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// ONNX Runtime does not run the model.
    #[error("ONNX Runtime cannot run {model}{}: {reason}", in_operator(.operator))]
    Run {
        /// The caller's name of the model.
        model: String,
        /// The operator that it cannot run, if it says so.
        operator: Option<String>,
        /// ONNX Runtime's message.
        reason: String,
    },
    /// The caller of [`Engine::unless`](crate::Engine::unless) cancelled the run.
    #[error("cancelled")]
    Cancelled,
    /// An output cannot be used.
    #[error("output {output:?} of the model {reason}")]
    Output {
        /// The output.
        output: String,
        /// The reason, which follows the output's name.
        reason: String,
    },
}

impl Error {
    /// Returns the class of the error.
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

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

fn in_operator(operator: &Option<String>) -> String {
    operator
        .as_ref()
        .map_or_else(String::new, |name| format!(", operator {name}"))
}
