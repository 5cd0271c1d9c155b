//! The errors of reading and writing a model's bytes.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::limit;
use crate::redact::shown;

pub type Result<T> = std::result::Result<T, Error>;

/// An error of reading or writing bytes. A path is that of a file or folder, or an object's URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot {action} {}", shown(path))]
    Io {
        /// The action that failed, such as `read`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot {action} {}: {}", shown(path), too_many(*needed))]
    OpenFiles {
        action: &'static str,
        path: PathBuf,
        /// About how many files the call needs, if known.
        needed: Option<usize>,
        source: io::Error,
    },
    /// A text is not a location, or names one that cannot be used like this. Says what is wrong,
    /// without parts that may be secret.
    #[error("{0}")]
    Location(String),
    #[error("external data file {location:?}: {fault}")]
    External { location: String, fault: FileFault },
    #[error(
        "{} is a link or no folder: external data is written below the model's folder, through no link",
        shown(.0)
    )]
    NotAFolder(PathBuf),
    #[error("{} exists already", shown(.0))]
    OutputExists(PathBuf),
    #[error("{} {fault}", shown(path))]
    NoOutput { path: PathBuf, fault: OutputFault },
    #[error("{} lies in an object store, where nothing can be replaced in place", shown(.0))]
    InPlaceObject(PathBuf),
    #[error("{} lies in an object store, and this build does not support them", shown(.0))]
    NoObjectStores(PathBuf),
    #[error("{} changed while it was being read", shown(.0))]
    InputChanged(PathBuf),
    #[error("{} is being changed by another process", shown(.0))]
    Busy(PathBuf),
    #[error(
        "{} is not what an interrupted rekey or signing leaves: it is no plain file, somebody else's, or others may write to it; remove it, or make it yours alone if you know it",
        shown(.0)
    )]
    Journal(PathBuf),
    /// Another process replaced an object: `by` says which, as far as known.
    #[error("{} is being written to by another process ({by})", shown(path))]
    Replaced { path: PathBuf, by: String },
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// The class of an error, of this crate or one above it, for scripts to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call cannot be carried out as asked.
    Usage,
    /// The input is malformed or exceeds a limit.
    Malformed,
    /// Bytes were changed since they were protected.
    Authentication,
    /// No identity opens the data key.
    NoMatchingKey,
    /// A policy is not met, or a required claim is not made.
    PolicyNotMet,
    /// A model or a licence says that it does not open yet, or no longer.
    NotInForce,
    /// The system failed to read or write.
    Io,
    /// ONNX Runtime is missing or too old, or refuses the model.
    Runtime,
    /// An internal fault, or a failure of a source: randomness, memory, a plugin's answer.
    Internal,
}

impl Error {
    /// Adds to an error about open files how many the call needs, which writes `n_files` together.
    #[must_use]
    pub fn needing(mut self, n_files: usize) -> Error {
        if let Error::OpenFiles { needed, .. } = &mut self {
            *needed = Some(limit::needed(n_files));
        }
        self
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => {
                ErrorKind::Internal
            }
            Error::Io { .. } | Error::OpenFiles { .. } | Error::InputChanged(_) => ErrorKind::Io,
            Error::External { .. } => ErrorKind::Malformed,
            Error::Internal(_) => ErrorKind::Internal,
            _ => ErrorKind::Usage,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    #[error("expected a regular file")]
    NotRegular,
    /// A symbolic link leads out of the model's folder, and of the folder that the model's own path
    /// leads to.
    #[error("expected a file below the model's folder, found {}", shown(.0))]
    Outside(PathBuf),
    #[error("expected a file of its own, found the file of {0}")]
    Shared(String),
    #[error("expected a normalised relative path")]
    NotNormalised,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutputFault {
    #[error("is a link, which outputs neither follow nor replace")]
    Link,
    #[error("is a folder, and the output is a file")]
    Folder,
    /// It is a socket, a disk, ...
    #[error("is neither a file nor a stream, and is not replaced")]
    Other,
    #[error("is a terminal, and the output is not text")]
    Terminal,
    #[error("takes one file alone, and this output comes with others beside it")]
    Several,
}

/// Turns the system's errors into ours: `.map_err(io("read", path))`.
pub fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| {
        let path = path.to_owned();
        if limit::is_exhausted(&source) {
            Error::OpenFiles {
                action,
                path,
                needed: None,
                source,
            }
        } else {
            Error::Io {
                action,
                path,
                source,
            }
        }
    }
}

fn too_many(needed: Option<usize>) -> String {
    let limit = limit::limit().map_or_else(String::new, |limit| {
        format!(", and this process may have {limit} (`ulimit -n`)")
    });
    match needed {
        Some(needed) => format!("the model needs about {needed} open files at once{limit}"),
        None => format!("too many files are open at once{limit}"),
    }
}
