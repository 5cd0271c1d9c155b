//! The moment before outputs get their names: what was made, and who may refuse it.

use onnxseal_store::OutputOptions;

use crate::pass::progress::{Digests, Volume};

/// Files that a call has read, and files that it has written and is about to publish.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Made {
    /// The digests of the files.
    pub digests: Digests,
    /// How much of the weights is encrypted, if the call has planned that.
    pub weights: Option<Volume>,
}

/// Called before outputs get their names: to keep a record of them, and to make room for them.
pub trait PublishHook: Sync {
    /// All outputs are written, and get their names once this has returned. Called once a call.
    ///
    /// # Errors
    /// An error ends the call with [`Error::Refused`](crate::Error::Refused), and no output appears.
    fn publish(&self, made: &Made) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// Whether the hook removes existing files in the place of the outputs. They are no error before
    /// it has been called.
    fn makes_room(&self) -> bool {
        false
    }
}

/// How outputs come to be, and who is asked before they get their names.
#[derive(Clone, Copy)]
pub struct Publication<'h> {
    /// How they come to be.
    pub options: OutputOptions,
    /// Who is asked. A call with a hook takes digests of all files, which costs time.
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
