//! What can go wrong.

use std::path::PathBuf;

/// Why an operation on keyed inputs failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no input key.
    #[error("not an input key: {reason}")]
    MalformedKey {
        /// What is wrong with it; nothing secret.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The age file of a key does not open.
    #[error(transparent)]
    Key(#[from] onnxseal_crypto::Error),
    /// The caller asks for what makes no sense.
    #[error("{0}")]
    Usage(String),
}

/// What the calls of this crate give.
pub type Result<T> = std::result::Result<T, Error>;
