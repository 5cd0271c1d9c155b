//! Faults of files, and errors of data sets.

use std::path::{Path, PathBuf};

use onnxseal_store::ErrorKind;

/// A fault in bytes. [`Fault::at`] adds their file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file breaks the rules of its format.
    #[error("{reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

impl Fault {
    /// Makes the error for the file at `path`.
    pub fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Fault::Io(source) => Error::Io { path, source },
            Fault::Malformed { reason } => Error::Malformed { path, reason },
        }
    }
}

/// An error of reading or making a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file breaks the rules of its format.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The caller's request cannot be met.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Returns the class of the error.
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

/// Makes the error for a file that cannot be read or written.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    |source| Fault::Io(source).at(path)
}
