//! The errors of label encryption.

use std::path::PathBuf;

use onnxseal_store::ErrorKind;

/// An error of an operation on labels.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("not a label key: {reason}")]
    MalformedKey { reason: &'static str },
    #[error("not a label authority: {reason}")]
    MalformedAuthority { reason: String },
    #[error("the model's table of labels is malformed: {reason}")]
    MalformedTable { reason: &'static str },
    #[error("the model's labels are not protected")]
    NoTable,
    #[error("the model's labels were changed: {reason}")]
    Unauthentic { reason: &'static str },
    #[error("the key of user {user:?} is of another authority than the model's labels")]
    OtherAuthority { user: String },
    #[error("the key of user {user:?} does not decrypt the model's labels")]
    WrongKey { user: String },
    #[error("the key of user {user:?} was revoked")]
    Revoked { user: String },
    #[error("{}", .path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Key(#[from] onnxseal_crypto::Error),
    #[cfg(feature = "vendor")]
    #[error(transparent)]
    Rewrite(#[from] onnxseal_rewrite::Error),
    #[error(transparent)]
    Store(#[from] onnxseal_store::Error),
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Data(#[from] onnxseal_data::Error),
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Engine(#[from] onnxseal_engine::Error),
    #[error(
        "decoded answers differ from the original's by {difference:.1e} of the largest, and {limit:.1e} would be rounding; nothing was written"
    )]
    Differs { difference: f64, limit: f64 },
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
            #[cfg(feature = "engine")]
            Error::Data(error) => error.kind(),
            #[cfg(feature = "engine")]
            Error::Engine(error) => error.kind(),
            Error::Differs { .. } => ErrorKind::Runtime,
            Error::Io { .. } | Error::Key(KeyError::Io { .. }) => ErrorKind::Io,
            #[cfg(feature = "vendor")]
            Error::Rewrite(error) => error.kind(),
            Error::Key(
                KeyError::Backend
                | KeyError::Memory { .. }
                | KeyError::Randomness(_)
                | KeyError::Plugin { .. },
            ) => ErrorKind::Internal,
            Error::MalformedKey { .. }
            | Error::MalformedAuthority { .. }
            | Error::MalformedTable { .. }
            | Error::NoTable
            | Error::Key(KeyError::MalformedKey { .. }) => ErrorKind::Malformed,
            Error::Unauthentic { .. } | Error::Key(KeyError::Unauthentic) => {
                ErrorKind::Authentication
            }
            Error::OtherAuthority { .. }
            | Error::WrongKey { .. }
            | Error::Revoked { .. }
            | Error::Key(KeyError::NoMatchingKey { .. } | KeyError::WrongPassphrase { .. }) => {
                ErrorKind::NoMatchingKey
            }
            Error::Key(_) | Error::Usage(_) => ErrorKind::Usage,
        }
    }
}
