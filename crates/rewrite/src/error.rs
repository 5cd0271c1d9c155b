//! What can go wrong.

use onnxseal_store::ErrorKind;

use crate::refusal::Refusal;

/// Why a model was not rewritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model cannot be rewritten.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// A file is no model that can be read.
    #[error(transparent)]
    Onnx(#[from] onnxseal_onnx::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] onnxseal_store::Error),
    /// The caller asks for what makes no sense.
    #[error("{0}")]
    Usage(String),
}

/// What the calls of this crate give.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The class the error belongs to.
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
