//! The errors of assessments.

use onnxseal_core::ErrorKind;
use onnxseal_engine::Error::{Output, Run};

/// An error of an assessment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Data(#[from] onnxseal_data::Error),
    /// ONNX Runtime does not run the model, or not on these data.
    #[error(transparent)]
    Engine(onnxseal_engine::Error),
    #[error("row {row} has label {label}; the model's {n_classes} classes count from 0")]
    Label {
        row: usize,
        label: i64,
        n_classes: usize,
    },
    #[error("the metric failed: {0}")]
    Metric(String),
    /// The model cannot be read, opened or protected.
    #[error(transparent)]
    Core(#[from] onnxseal_core::Error),
    #[error("the page cannot be filled in")]
    Page(#[from] minijinja::Error),
    #[error("{0}")]
    Usage(String),
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

impl From<onnxseal_plan::Error> for Error {
    fn from(error: onnxseal_plan::Error) -> Self {
        Error::Core(error.into())
    }
}

impl From<onnxseal_store::Error> for Error {
    fn from(error: onnxseal_store::Error) -> Self {
        Error::Core(error.into())
    }
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Data(error) => error.kind(),
            Error::Engine(error) => error.kind(),
            Error::Core(error) => error.kind(),
            Error::Page(_) => ErrorKind::Internal,
            Error::Label { .. } | Error::Metric(_) | Error::Usage(_) | Error::Cancelled => {
                ErrorKind::Usage
            }
        }
    }
}

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
