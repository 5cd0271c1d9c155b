//! The errors of assessments.

use onnxseal_core::ErrorKind;
use onnxseal_engine::Error::{Output, Run};

/// An error of an assessment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] onnxseal_data::Error),
    /// ONNX Runtime does not run the model, or not on these data.
    #[error(transparent)]
    Engine(onnxseal_engine::Error),
    /// A label is not one of the classes.
    #[error("row {row} has label {label}; the model's {n_classes} classes count from 0")]
    Label {
        /// The sample, from 0.
        row: usize,
        /// Its label.
        label: i64,
        /// Classes of the output.
        n_classes: usize,
    },
    /// The caller's metric failed.
    #[error("the metric failed: {0}")]
    Metric(String),
    /// The caller's request cannot be met.
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
    /// A policy cannot be used.
    #[error(transparent)]
    Policy(#[from] onnxseal_plan::Error),
    /// A file of the model cannot be read.
    #[error(transparent)]
    Store(#[from] onnxseal_store::Error),
    /// The page of an assessment cannot be filled in.
    #[error("the page cannot be filled in")]
    Page(#[from] minijinja::Error),
    /// The caller cancelled the call.
    #[error("cancelled")]
    Cancelled,
}

impl From<onnxseal_engine::Error> for Error {
    fn from(error: onnxseal_engine::Error) -> Self {
        match error {
            onnxseal_engine::Error::Cancelled => Error::Cancelled,
            error => Error::Engine(error),
        }
    }
}

impl Error {
    /// Returns the class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Data(error) => error.kind(),
            Error::Engine(error) => error.kind(),
            Error::Core(error) => error.kind(),
            Error::Store(error) => error.kind(),
            Error::Model { .. } => ErrorKind::Malformed,
            Error::Page(_) => ErrorKind::Internal,
            Error::Label { .. }
            | Error::Metric(_)
            | Error::Usage(_)
            | Error::Policy(_)
            | Error::Cancelled => ErrorKind::Usage,
        }
    }

    /// Converts the error to core's, or returns it if it is another.
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

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// The result for a variant of a model, or the reason why ONNX Runtime does not run it.
pub(crate) type Attempt<T> = std::result::Result<T, String>;

/// Separates variants that do not run, which the work can do without, from errors that end it.
pub(crate) fn attempt<T>(result: Result<T>) -> Result<Attempt<T>> {
    match result {
        Ok(got) => Ok(Ok(got)),
        Err(Error::Engine(Run { reason, .. } | Output { reason, .. })) => Ok(Err(reason)),
        Err(error) => Err(error),
    }
}
