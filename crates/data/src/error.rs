//! What can be wrong with a file.

/// Why a file is no data set, or cannot be read. Who has the path says which file it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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

/// What the calls of this crate give.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn bad(reason: impl Into<String>) -> Error {
    let reason = reason.into();
    Error::Malformed { reason }
}
