//! The hook that is called before outputs get their names, and that may refuse them.

use onnxseal_store::OutputOptions;

use crate::pass::progress::{FileStates, Volume};

/// Files that a call has read, and files that it has written and is about to publish.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Made {
    /// The files, with the digests that the hook asked for.
    pub files: FileStates,
    /// How much of the weights is encrypted, if the call has planned that.
    pub weights: Option<Volume>,
}

/// Is called before outputs get their names: to keep a record of them, and to make room for them.
pub trait PublishHook: Sync {
    /// All outputs are written, and get their names once this has returned. A call does this once.
    ///
    /// # Errors
    /// An error ends the call with [`Error::Refused`](crate::Error::Refused), and no output appears.
    fn publish(&self, made: &Made) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// Whether the call is to take digests of all files. It then takes about half as long again.
    fn wants_digests(&self) -> bool {
        false
    }

    /// Whether the hook removes files that exist in the place of outputs. Until it was called they are
    /// no error.
    fn makes_room(&self) -> bool {
        false
    }
}

/// How outputs are written, and the hook that is called before they get their names.
#[derive(Clone, Copy)]
pub struct Publication<'h> {
    /// How they are written.
    pub options: OutputOptions,
    /// The hook.
    pub hook: Option<&'h dyn PublishHook>,
}

impl From<OutputOptions> for Publication<'_> {
    fn from(options: OutputOptions) -> Self {
        Publication {
            options,
            hook: None,
        }
    }
}

impl std::fmt::Debug for Publication<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication")
            .field("options", &self.options)
            .field("hook", &self.hook.is_some())
            .finish()
    }
}
