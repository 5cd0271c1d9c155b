//! Faults of files, and errors of data sets.

use std::path::{Path, PathBuf};

use onnxseal_store::ErrorKind;

/// A fault in bytes. [`Fault::at`] adds their file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Malformed(String),
}

impl Fault {
    pub fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Fault::Io(source) => Error::Io { path, source },
            Fault::Malformed(reason) => Error::Malformed { path, reason },
        }
    }
}

/// An error of reading or making a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot read {}", .path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {reason}", .path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("{0}")]
    Usage(String),
}

impl Error {
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
    Fault::Malformed(reason.into())
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    |source| Fault::Io(source).at(path)
}
