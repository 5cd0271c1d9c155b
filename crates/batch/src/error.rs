//! The errors of a batch, and of its models.

use std::path::PathBuf;

use onnxseal_core::{Error as CoreError, ErrorKind};
use onnxseal_store::{Error as StoreError, shown};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on one model failed, or a source cannot be read.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The batch cannot begin as it was asked for. Says what to change.
    #[error("{0}")]
    Usage(String),
    /// A source that the caller named lies in the output folder.
    #[error("{} lies in the output folder {}", shown(given), shown(out))]
    SourceInOutput { given: PathBuf, out: PathBuf },
    /// An output exists that no earlier run made, as far as its record tells.
    #[error(
        "{} exists already, and is not what an earlier run has written",
        shown(path)
    )]
    OutputForeign { path: PathBuf },
    /// Another batch is writing to the output folder, or to a path in it.
    #[error("{} is being written to by another batch ({by})", shown(path))]
    InUse {
        path: PathBuf,
        /// The other batch, as far as its lock says.
        by: String,
    },
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            _ => ErrorKind::Usage,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Core(error.into())
    }
}
