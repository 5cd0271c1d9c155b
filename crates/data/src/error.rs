//! Faults of files, and errors of data sets.

use std::path::{Path, PathBuf};

use onnxseal_store::ErrorKind;

/// A fault in bytes. [`Fault::at`] adds the file that they come from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file says what it must not.
    #[error("{reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

impl Fault {
    /// The error of the file at `path`.
    pub fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Fault::Io(source) => Error::Io { path, source },
            Fault::Malformed { reason } => Error::Malformed { path, reason },
        }
    }
}

/// Why there is no data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file says what it must not.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The caller asks for what makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// The class the error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } => ErrorKind::Io,
            Error::Malformed { .. } => ErrorKind::Malformed,
            Error::Usage(_) => ErrorKind::Usage,
        }
    }
}

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) fn bad(reason: impl Into<String>) -> Fault {
    let reason = reason.into();
    Fault::Malformed { reason }
}

/// The error of a file that cannot be read or written.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    |source| Fault::Io(source).at(path)
}
