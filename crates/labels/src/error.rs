//! The errors of label encryption.

use std::path::PathBuf;

use onnxseal_rewrite::Refusal;
use onnxseal_store::ErrorKind;

/// An error of an operation on labels.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a label key.
    #[error("not a label key: {reason}")]
    MalformedKey {
        /// What is wrong with it, without secrets.
        reason: &'static str,
    },
    /// The text is not a label authority.
    #[error("not a label authority: {reason}")]
    MalformedAuthority {
        /// What is wrong with it, without secrets.
        reason: String,
    },
    /// The model's table of labels is malformed.
    #[error("the model's table of labels is malformed: {reason}")]
    MalformedTable {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The model has no table of labels.
    #[error("the model's labels are not protected")]
    NoTable,
    /// The authority has not signed this table, or the table belongs to other rows.
    #[error("the model's labels were changed: {reason}")]
    Unauthentic {
        /// The mismatch.
        reason: &'static str,
    },
    /// The key is from another authority than the one that protected the model.
    #[error("the key of user {user:?} is of another authority than the model's labels")]
    OtherAuthority {
        /// The name in the key.
        user: String,
    },
    /// The key does not decrypt the table.
    #[error("the key of user {user:?} does not decrypt the model's labels")]
    WrongKey {
        /// The name in the key.
        user: String,
    },
    /// The key was revoked before the model was protected.
    #[error("the key of user {user:?} was revoked")]
    Revoked {
        /// The name in the key.
        user: String,
    },
    /// A file cannot be read or written.
    #[error("{}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The age file of a key does not open, or the system has no randomness.
    #[error(transparent)]
    Key(#[from] onnxseal_crypto::Error),
    /// The model cannot be rewritten.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// A file is not a readable model.
    #[error(transparent)]
    Onnx(#[from] onnxseal_onnx::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] onnxseal_store::Error),
    /// Data cannot be read.
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Data(#[from] onnxseal_data::Error),
    /// ONNX Runtime does not run a model, or not on these data.
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Engine(#[from] onnxseal_engine::Error),
    /// The protected model's answers differ from the original's.
    #[error(
        "decoded answers differ from the original's by {difference:.1e} of the largest, and {limit:.1e} would be rounding; nothing was written"
    )]
    Differs {
        /// The difference, as a share of the largest logit.
        difference: f64,
        /// The largest difference that rounding explains.
        limit: f64,
    },
    /// The caller's request cannot be met.
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
            Error::Onnx(onnxseal_onnx::Error::Memory { .. })
            | Error::Key(
                KeyError::Backend
                | KeyError::Memory { .. }
                | KeyError::Randomness(_)
                | KeyError::Plugin { .. },
            ) => ErrorKind::Internal,
            Error::MalformedKey { .. }
            | Error::MalformedAuthority { .. }
            | Error::MalformedTable { .. }
            | Error::NoTable
            | Error::Onnx(_)
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
            Error::Key(_) | Error::Refused(_) | Error::Usage(_) => ErrorKind::Usage,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(Box::new(refusal))
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
