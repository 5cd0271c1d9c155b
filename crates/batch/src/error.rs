//! The errors of a batch, and of its models.

use std::path::PathBuf;

use onnxseal_core::{Error as CoreError, ErrorKind};
use onnxseal_store::{Error as StoreError, ObjectUrl, shown};

use crate::RECORDS;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on one model failed, or a source cannot be read.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A source is a model in memory, which is not in a folder to search.
    #[error("a model in memory lies in no folder to be searched")]
    InMemory,
    /// A list of models holds a secret key.
    #[error("{} holds a secret key, and is no list of models", shown(list))]
    SecretList {
        /// The list.
        list: PathBuf,
    },
    /// A source is neither a file nor a pattern.
    #[error("{} does not exist, and is no pattern: {reason}", given.display())]
    NoPattern {
        /// The source.
        given: PathBuf,
        /// What is wrong with it as a pattern.
        reason: String,
    },
    /// A source is not a file, and as a pattern it matches nothing.
    #[error("{} does not exist, and as a pattern it matches nothing", given.display())]
    NoMatch {
        /// The source.
        given: PathBuf,
    },
    /// A URL that looks like a pattern names neither an object nor a folder.
    #[error(
        "{url} names nothing, and there are no patterns for objects: name the folder, such as s3://bucket/models/"
    )]
    ObjectPattern {
        /// The URL.
        url: ObjectUrl,
    },
    /// An object's key gives no path below an output folder.
    #[error("{url} has a key that is no path here")]
    KeyIsNoPath {
        /// The object.
        url: ObjectUrl,
    },
    /// No models were found.
    #[error("no models were found")]
    NoModels,
    /// All models that were found lie in the output folder, and so are outputs.
    #[error("all {found} models that were found lie in the output folder")]
    OnlyOutputs {
        /// How many were found.
        found: usize,
    },
    /// A source that the caller named lies in the output folder.
    #[error("{} lies in the output folder {}", shown(given), shown(out))]
    SourceInOutput {
        /// The source.
        given: PathBuf,
        /// The output folder.
        out: PathBuf,
    },
    /// An operation that writes has no output folder.
    #[error("no output folder was given")]
    NoOutputFolder,
    /// A model would be written to the folder of the records.
    #[error(
        "{} would be written to {}, but the folder {RECORDS} is for records",
        model.display(),
        relative.display()
    )]
    AmongRecords {
        /// The model.
        model: PathBuf,
        /// Its path below the output folder.
        relative: PathBuf,
    },
    /// Two outputs would have one path.
    #[error(
        "{} and {} would both be written to {} in the output folder",
        one.display(),
        other.display(),
        relative.display()
    )]
    Clash {
        /// A model.
        one: PathBuf,
        /// Another.
        other: PathBuf,
        /// Their path below the output folder.
        relative: PathBuf,
    },
    /// An output would have to be a folder for another.
    #[error(
        "{} would go into a folder {}, and {} would be a file of that name",
        inner.display(),
        folder.display(),
        outer.display()
    )]
    FileAndFolder {
        /// The output that would go into the folder.
        inner: PathBuf,
        /// The output that would be a file.
        outer: PathBuf,
        /// The folder's path below the output folder.
        folder: PathBuf,
    },
    /// The report would replace a file of the batch.
    #[error("the report {} would be written over {}, {what}", report.display(), file.display())]
    ReportOver {
        /// The report.
        report: PathBuf,
        /// The file, or the folder of the records.
        file: PathBuf,
        /// The role of that file in the batch.
        what: &'static str,
    },
    /// The threads need more memory than the batch may use.
    #[error(
        "{given_mib} MiB of memory are not enough: {threads} threads need {needed_mib} MiB by themselves"
    )]
    Memory {
        /// The memory that the batch may use, in MiB.
        given_mib: u64,
        /// The number of threads.
        threads: u64,
        /// The memory that they need, in MiB.
        needed_mib: u64,
    },
    /// An output exists that no earlier run made, as far as its record tells.
    #[error(
        "{} exists already, and is not what an earlier run has written",
        shown(path)
    )]
    OutputForeign {
        /// The output.
        path: PathBuf,
    },
    /// Another batch is writing to the output folder.
    #[error("{} is being written to by another batch ({by})", shown(path))]
    InUse {
        /// The output folder, or the path in it where both write.
        path: PathBuf,
        /// The other batch, as far as its lock says.
        by: String,
    },
}

impl Error {
    /// Returns the class of the error.
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
