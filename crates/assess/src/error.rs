//! What can go wrong.

use std::path::PathBuf;

use onnxseal_core::ErrorKind;

/// Why there is no assessment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A data file says what it must not.
    #[error("{}: {reason}", .path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The data have nothing for an input of the model.
    #[error("the data have nothing for input {input:?} of the model; they have {given}")]
    MissingInput {
        /// The input.
        input: String,
        /// What there is.
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
    /// A label names no class.
    #[error("row {row} has label {label}; the model tells {n_classes} classes apart, from 0")]
    Label {
        /// The sample, from 0.
        row: usize,
        /// Its label.
        label: i64,
        /// Classes of the output.
        n_classes: usize,
    },
    /// ONNX Runtime is not there.
    #[error("ONNX Runtime was not found: {tried}")]
    NoLibrary {
        /// Where it was looked for.
        tried: String,
    },
    /// ONNX Runtime's library cannot be used.
    #[error("ONNX Runtime in {} cannot be used: {reason}", .path.display())]
    Library {
        /// The library.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// ONNX Runtime does not run the model.
    #[error("ONNX Runtime cannot run {model}{}: {reason}", in_operator(.operator))]
    Run {
        /// Which model: the original, or one with a fill.
        model: String,
        /// The operator that it cannot run, where it says so.
        operator: Option<String>,
        /// What it says.
        reason: String,
    },
    /// An output cannot be used.
    #[error("output {output:?} of the model {reason}")]
    Output {
        /// The output.
        output: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller's metric failed.
    #[error("the metric failed: {0}")]
    Metric(String),
    /// The caller asks for what makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Reading, opening or protecting the model failed.
    #[error(transparent)]
    Core(#[from] onnxseal_core::Error),
    /// The model file is broken.
    #[error("{model}")]
    Model {
        /// The model.
        model: String,
        /// What is wrong.
        source: onnxseal_onnx::Error,
    },
    /// A policy makes no sense.
    #[error(transparent)]
    Policy(#[from] onnxseal_plan::Error),
    /// A file of the model cannot be read.
    #[error(transparent)]
    Store(#[from] onnxseal_store::Error),
    /// The caller wanted no more.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The class the error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } => ErrorKind::Io,
            Error::Data { .. } => ErrorKind::Malformed,
            Error::NoLibrary { .. } | Error::Library { .. } | Error::Run { .. } => {
                ErrorKind::Runtime
            }
            Error::Core(error) => error.kind(),
            Error::Model { .. } => ErrorKind::Malformed,
            Error::MissingInput { .. }
            | Error::Fit { .. }
            | Error::Label { .. }
            | Error::Output { .. }
            | Error::Metric(_)
            | Error::Usage(_)
            | Error::Policy(_)
            | Error::Store(_)
            | Error::Cancelled => ErrorKind::Usage,
        }
    }

    /// The same error as one of core's, where it is one.
    pub fn into_core(self) -> std::result::Result<onnxseal_core::Error, Error> {
        match self {
            Error::Core(error) => Ok(error),
            Error::Policy(error) => Ok(onnxseal_core::Error::Policy(error)),
            Error::Store(error) => Ok(onnxseal_core::Error::Store(error)),
            Error::Model { model, source } => Ok(onnxseal_core::Error::Model {
                path: model.into(),
                source,
            }),
            other => Err(other),
        }
    }
}

/// What the calls of this crate give.
pub type Result<T> = std::result::Result<T, Error>;

fn in_operator(operator: &Option<String>) -> String {
    operator
        .as_ref()
        .map_or_else(String::new, |name| format!(", operator {name}"))
}

/// The file at `path` cannot be read.
pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::Io {
        path: path.to_owned(),
        source,
    }
}

/// The data file at `path` says what it must not.
pub(crate) fn bad(path: &std::path::Path, reason: impl Into<String>) -> Error {
    Error::Data {
        path: path.to_owned(),
        reason: reason.into(),
    }
}
