//! What can go wrong.

use std::path::PathBuf;

use onnxseal_rewrite::Refusal;

/// Why an operation on keyed inputs failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no input key.
    #[error("not an input key: {reason}")]
    MalformedKey {
        /// What is wrong with it; nothing secret.
        reason: String,
    },
    /// An array does not fit the key.
    #[error("{reason}")]
    Array {
        /// What does not fit, and what would.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The caller wanted no more.
    #[error("cancelled")]
    Cancelled,
    /// The age file of a key does not open.
    #[error(transparent)]
    Key(#[from] onnxseal_crypto::Error),
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

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The caller asks for what cannot be.
    Usage,
    /// A file says what it must not.
    Malformed,
    /// A key was changed since it was encrypted.
    Authentication,
    /// No identity opens the key.
    NoMatchingKey,
    /// The system could not read or write.
    Io,
}

impl Error {
    /// The class that the error belongs to.
    pub fn fault(&self) -> Fault {
        use onnxseal_crypto::Error as KeyError;
        use onnxseal_store::Error as StoreError;
        match self {
            Error::Io { .. }
            | Error::Key(KeyError::Io { .. })
            | Error::Store(StoreError::Io { .. } | StoreError::InputChanged { .. }) => Fault::Io,
            Error::MalformedKey { .. }
            | Error::Onnx(_)
            | Error::Store(StoreError::External { .. })
            | Error::Key(KeyError::MalformedKey { .. }) => Fault::Malformed,
            Error::Key(KeyError::Unauthentic) => Fault::Authentication,
            Error::Key(KeyError::NoMatchingKey { .. } | KeyError::WrongPassphrase { .. }) => {
                Fault::NoMatchingKey
            }
            _ => Fault::Usage,
        }
    }
}

impl From<onnxseal_rewrite::Error> for Error {
    fn from(error: onnxseal_rewrite::Error) -> Error {
        use onnxseal_rewrite::Error as RewriteError;
        match error {
            RewriteError::Refused(refusal) => Error::Refused(refusal),
            RewriteError::Onnx(error) => Error::Onnx(error),
            RewriteError::Store(error) => Error::Store(error),
            error => Error::Usage(error.to_string()),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(Box::new(refusal))
    }
}
