//! The errors of rewriting.

use onnxseal_store::ErrorKind;

use crate::refusal::Refusal;

/// An error of rewriting a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{0}")]
    Refused(Box<Refusal>),
    #[error(transparent)]
    Onnx(#[from] onnxseal_onnx::Error),
    #[error(transparent)]
    Store(#[from] onnxseal_store::Error),
    #[error("{0}")]
    Usage(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Store(error) => error.kind(),
            Error::Onnx(onnxseal_onnx::Error::Memory { .. }) => ErrorKind::Internal,
            Error::Onnx(_) => ErrorKind::Malformed,
            Error::Refused(_) | Error::Usage(_) => ErrorKind::Usage,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(Box::new(refusal))
    }
}
