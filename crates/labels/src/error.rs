//! What can go wrong.

use std::path::PathBuf;

use onnxseal_rewrite::Refusal;
use onnxseal_store::ErrorKind;

/// Why an operation on labels failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no label key.
    #[error("not a label key: {reason}")]
    MalformedKey {
        /// What is wrong with it; nothing secret.
        reason: &'static str,
    },
    /// The text is no label authority.
    #[error("not a label authority: {reason}")]
    MalformedAuthority {
        /// What is wrong with it; nothing secret.
        reason: String,
    },
    /// A model carries a table of labels that is none.
    #[error("the model's table of labels is malformed: {reason}")]
    MalformedTable {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A model carries no table of labels.
    #[error("the model's labels are not protected")]
    NoTable,
    /// The authority has not signed this table, or the table belongs to other rows.
    #[error("the model's labels were changed: {reason}")]
    Unauthentic {
        /// How that shows.
        reason: &'static str,
    },
    /// The key is not of the authority that protected the model.
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
        /// Why.
        source: std::io::Error,
    },
    /// The age file of a key does not open, or the system gives no randomness.
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
    /// Data cannot be read.
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Data(#[from] onnxseal_data::Error),
    /// A model does not run on ONNX Runtime, or not on these data.
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Engine(#[from] onnxseal_engine::Error),
    /// The protected model answers otherwise than the original.
    #[error(
        "decoded answers differ from the original's by {difference:.1e} of the largest, and {limit:.1e} would be rounding; nothing was written"
    )]
    Differs {
        /// By how much of the largest logit.
        difference: f64,
        /// The largest difference that rounding explains.
        limit: f64,
    },
    /// The caller asks for what makes no sense.
    #[error("{0}")]
    Usage(String),
}

/// What the calls of this crate give.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The class the error belongs to.
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
