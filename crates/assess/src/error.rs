//! What can go wrong.

use onnxseal_core::ErrorKind;
use onnxseal_engine::Error::{Output, Run};

/// Why there is no assessment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] onnxseal_data::Error),
    /// The model does not run, or not on these data.
    #[error(transparent)]
    Engine(onnxseal_engine::Error),
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

impl From<onnxseal_engine::Error> for Error {
    fn from(error: onnxseal_engine::Error) -> Self {
        match error {
            onnxseal_engine::Error::Cancelled => Error::Cancelled,
            error => Error::Engine(error),
        }
    }
}

impl Error {
    /// The class the error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Data(error) => error.kind(),
            Error::Engine(error) => error.kind(),
            Error::Core(error) => error.kind(),
            Error::Store(error) => error.kind(),
            Error::Model { .. } => ErrorKind::Malformed,
            Error::Label { .. }
            | Error::Metric(_)
            | Error::Usage(_)
            | Error::Policy(_)
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

/// What a variant of a model gives, or why ONNX Runtime does not run it.
pub(crate) type Attempt<T> = std::result::Result<T, String>;

/// Tells a variant that does not run, without which the work goes on, from what ends the work.
///
/// # Errors
/// All others.
pub(crate) fn attempt<T>(result: Result<T>) -> Result<Attempt<T>> {
    match result {
        Ok(got) => Ok(Ok(got)),
        Err(Error::Engine(Run { reason, .. } | Output { reason, .. })) => Ok(Err(reason)),
        Err(error) => Err(error),
    }
}
