//! Where the results of calls go, and the hook that may refuse them.

use onnxseal_store::{Flush, Input, Location, OutputOptions};

use crate::error;
use crate::pass::states::{FileStates, Volume};

/// Where a call that changes a model leaves the result. Whatever becomes a [`Location`] or a [`Publication`]
/// becomes one.
#[derive(Clone, Debug)]
pub enum Destination<'h> {
    /// In new files.
    New(Publication<'h>),
    /// In the place of the model: a file, under a name that may be a link to it.
    ///
    /// [`Flush`] is for what is written into the file as it lies. A file that takes the place of the model is
    /// on the disk first, whatever that says.
    InPlace(Flush),
}

/// New files that a call makes.
#[derive(Clone)]
pub struct Publication<'h> {
    /// The place of the model file. External files go beside it, under their relative paths.
    pub location: Location,
    /// How the files are written.
    pub options: OutputOptions,
    /// Whether external files keep their paths even where [`protect`](crate::protect()) would choose others:
    /// the caller has planned all outputs.
    pub keep_paths: bool,
    /// What is called before the files get their names.
    pub hook: Option<&'h dyn PublishHook>,
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

/// Files that a call has read, and files that it has written and is about to publish.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Made {
    /// The files, with the digests that the hook asked for.
    pub files: FileStates,
    /// How much of the weights is encrypted, if the call has planned that.
    pub weights: Option<Volume>,
}

impl<'h> Destination<'h> {
    /// New files at `output`; the place of the model if there is none.
    pub fn new(output: Option<impl Into<Location>>, options: OutputOptions) -> Destination<'h> {
        match output {
            Some(output) => Destination::New(Publication::new(output, options)),
            None => Destination::InPlace(options.flush),
        }
    }

    /// Where the model at `location` is read from: if it is changed in place, where the file itself lies.
    ///
    /// # Errors
    /// [`StoreError::InPlaceObject`](crate::StoreError::InPlaceObject), and `Io`.
    pub(crate) fn source(&self, location: Location) -> error::Result<Location> {
        match self {
            Destination::New(_) => Ok(location),
            Destination::InPlace(_) => Ok(location.in_place()?.into()),
        }
    }

    /// Keeps others from changing `model` in place if this call does: either change would be lost.
    ///
    /// # Errors
    /// [`StoreError::Busy`](crate::StoreError::Busy), and `Io`.
    pub(crate) fn lock(&self, model: &Input) -> error::Result<()> {
        match self {
            Destination::New(_) => Ok(()),
            Destination::InPlace(_) => Ok(model.lock_in_place()?),
        }
    }
}

impl<'h, P: Into<Publication<'h>>> From<P> for Destination<'h> {
    fn from(publication: P) -> Destination<'h> {
        Destination::New(publication.into())
    }
}

impl Publication<'_> {
    /// New files at `location`, without a hook.
    pub fn new(location: impl Into<Location>, options: OutputOptions) -> Self {
        Publication {
            location: location.into(),
            options,
            keep_paths: false,
            hook: None,
        }
    }
}

impl<L: Into<Location>> From<L> for Publication<'_> {
    /// New files at `location`, which replace nothing.
    fn from(location: L) -> Self {
        Publication::new(location, OutputOptions::default())
    }
}

impl std::fmt::Debug for Publication<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Publication {
            location,
            options,
            keep_paths,
            hook,
        } = self;
        f.debug_struct("Publication")
            .field("location", location)
            .field("options", options)
            .field("keep_paths", keep_paths)
            .field("hook", &hook.is_some())
            .finish()
    }
}
