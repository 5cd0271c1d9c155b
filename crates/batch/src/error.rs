//! What keeps a batch from running, or one of its models from being done.

use std::path::PathBuf;

use onnxseal_core::{Error as CoreError, ErrorKind};
use onnxseal_store::{Error as StoreError, ObjectUrl, shown};

use crate::RECORDS;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with many models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on one model failed, or a source cannot be read.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A model in memory was given as a source: it lies in no folder to be searched.
    #[error("a model in memory lies in no folder to be searched")]
    InMemory,
    /// A list of models holds a secret key.
    #[error("{} holds a secret key, and is no list of models", shown(list))]
    SecretList {
        /// The list.
        list: PathBuf,
    },
    /// A source is no file, and no pattern either.
    #[error("{} does not exist, and is no pattern: {reason}", given.display())]
    NoPattern {
        /// The source.
        given: PathBuf,
        /// What is wrong with it as a pattern.
        reason: String,
    },
    /// A source is no file, and as a pattern it matches nothing.
    #[error("{} does not exist, and as a pattern it matches nothing", given.display())]
    NoMatch {
        /// The source.
        given: PathBuf,
    },
    /// A URL that looks like a pattern names no object, and no folder.
    #[error(
        "{url} names nothing, and there are no patterns for objects: name the folder, such as s3://bucket/models/"
    )]
    ObjectPattern {
        /// The URL.
        url: ObjectUrl,
    },
    /// No path below an output folder can be made of an object's key.
    #[error("{url} has a key that is no path here")]
    KeyIsNoPath {
        /// The object.
        url: ObjectUrl,
    },
    /// There is nothing to do.
    #[error("no models were found")]
    NoModels,
    /// There is nothing to do: what lies in the output folder is an output.
    #[error("all {found} models that were found lie in the output folder")]
    OnlyOutputs {
        /// How many were found.
        found: usize,
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
        /// Where it would go, below the output folder.
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
        /// Where both would go, below the output folder.
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
        /// What would go into the folder.
        inner: PathBuf,
        /// What would be a file.
        outer: PathBuf,
        /// Where, below the output folder.
        folder: PathBuf,
    },
    /// The report would replace a file of the batch.
    #[error("the report {} would be written over {}, {what}", report.display(), file.display())]
    ReportOver {
        /// The report.
        report: PathBuf,
        /// The file, or the folder of the records.
        file: PathBuf,
        /// What that is to the batch.
        what: &'static str,
    },
    /// The threads need more memory than the batch may use.
    #[error(
        "{given_mib} MiB of memory are not enough: {threads} threads need {needed_mib} MiB by themselves"
    )]
    Memory {
        /// How much the batch may use.
        given_mib: u64,
        /// How many threads there are.
        threads: u64,
        /// How much they need.
        needed_mib: u64,
    },
    /// An output exists that is not what an earlier run made, as far as its record tells.
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
        /// The output folder, or where in it both write.
        path: PathBuf,
        /// The other batch, as far as its lock says.
        by: String,
    },
}

impl Error {
    /// The class the error belongs to.
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
