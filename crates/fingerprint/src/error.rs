//! The errors of fingerprints.

use onnxseal_store::ErrorKind;

/// An error of marking or tracing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("not a fingerprint secret: {reason}")]
    MalformedSecret { reason: &'static str },
    #[error(transparent)]
    Key(#[from] onnxseal_crypto::Error),
    #[error(transparent)]
    Rewrite(#[from] onnxseal_rewrite::Error),
    #[error(transparent)]
    Store(#[from] onnxseal_store::Error),
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Engine(#[from] onnxseal_engine::Error),
    /// [`Progress`](onnxseal_store::Progress) cancelled the call.
    #[error("cancelled")]
    Cancelled,
    #[error("{0} is protected: open it first, with unprotect")]
    Protected(&'static str),
    #[error("{0}")]
    Usage(String),
}

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns the class of the error.
    pub fn kind(&self) -> ErrorKind {
        use onnxseal_crypto::Error as KeyError;
        match self {
            Error::Store(error) => error.kind(),
            Error::Rewrite(error) => error.kind(),
            #[cfg(feature = "engine")]
            Error::Engine(error) => error.kind(),
            Error::Key(KeyError::Io { .. }) => ErrorKind::Io,
            Error::Key(
                KeyError::Backend
                | KeyError::Memory { .. }
                | KeyError::Randomness(_)
                | KeyError::Plugin { .. },
            ) => ErrorKind::Internal,
            Error::MalformedSecret { .. } | Error::Key(KeyError::MalformedKey { .. }) => {
                ErrorKind::Malformed
            }
            Error::Key(KeyError::Unauthentic) => ErrorKind::Authentication,
            Error::Key(KeyError::NoMatchingKey { .. } | KeyError::WrongPassphrase { .. }) => {
                ErrorKind::NoMatchingKey
            }
            Error::Key(_) | Error::Cancelled | Error::Protected(_) | Error::Usage(_) => {
                ErrorKind::Usage
            }
        }
    }
}
