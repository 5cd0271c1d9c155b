//! The errors of keyed inputs.

use std::path::PathBuf;

use onnxseal_store::ErrorKind;

/// An error of an operation on keyed inputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("not an input key: {reason}")]
    MalformedKey {
        /// What is wrong with it, without secrets.
        reason: String,
    },
    #[error("{reason}")]
    Array {
        /// What does not fit, and what was expected.
        reason: String,
    },
    #[error("{}", .path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cancelled")]
    Cancelled,
    /// The age file of a key does not open.
    #[error(transparent)]
    Key(#[from] onnxseal_crypto::Error),
    #[cfg(feature = "vendor")]
    #[error(transparent)]
    Rewrite(#[from] onnxseal_rewrite::Error),
    #[error(transparent)]
    Store(#[from] onnxseal_store::Error),
    #[cfg(feature = "vendor")]
    #[error(transparent)]
    Data(#[from] onnxseal_data::Error),
    #[cfg(feature = "engine")]
    #[error(transparent)]
    Engine(#[from] onnxseal_engine::Error),
    #[error(
        "the rewritten model does not compute what the original does: output {output:?} differs by {difference:.1e} of its largest value, and {limit:.1e} would be {why}; nothing was written"
    )]
    Differs {
        output: String,
        /// The difference, as a share of the largest value.
        difference: f64,
        limit: f64,
        /// The cause that explains a difference up to `limit`.
        why: &'static str,
    },
    #[error("{0}")]
    Usage(String),
}

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn kind(&self) -> ErrorKind {
        use onnxseal_crypto::Error as KeyError;
        match self {
            Error::Store(error) => error.kind(),
            #[cfg(feature = "vendor")]
            Error::Data(error) => error.kind(),
            #[cfg(feature = "vendor")]
            Error::Rewrite(error) => error.kind(),
            #[cfg(feature = "engine")]
            Error::Engine(error) => error.kind(),
            Error::Differs { .. } => ErrorKind::Runtime,
            Error::Io { .. } | Error::Key(KeyError::Io { .. }) => ErrorKind::Io,
            Error::Key(
                KeyError::Backend
                | KeyError::Memory { .. }
                | KeyError::Randomness(_)
                | KeyError::Plugin { .. },
            ) => ErrorKind::Internal,
            Error::MalformedKey { .. } | Error::Key(KeyError::MalformedKey { .. }) => {
                ErrorKind::Malformed
            }
            Error::Key(KeyError::Unauthentic) => ErrorKind::Authentication,
            Error::Key(KeyError::NoMatchingKey { .. } | KeyError::WrongPassphrase { .. }) => {
                ErrorKind::NoMatchingKey
            }
            Error::Array { .. } | Error::Cancelled | Error::Key(_) | Error::Usage(_) => {
                ErrorKind::Usage
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_the_system_lacks_is_no_usage() {
        use onnxseal_crypto::Error as KeyError;
        assert_eq!(Error::from(KeyError::Backend).kind(), ErrorKind::Internal);
        assert_eq!(
            Error::from(KeyError::Unauthentic).kind(),
            ErrorKind::Authentication
        );
        let read = |kind: io::ErrorKind| onnxseal_store::Error::Io {
            action: "read",
            path: "model.onnx".into(),
            source: kind.into(),
        };
        let kind = |kind| Error::from(read(kind)).kind();
        assert_eq!(kind(io::ErrorKind::OutOfMemory), ErrorKind::Internal);
        assert_eq!(kind(io::ErrorKind::NotFound), ErrorKind::Io);
    }
}
