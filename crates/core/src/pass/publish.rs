//! Where the results of calls go, and the hook that may refuse them.

use onnxseal_store::{Changed, Flush, Input, Location, OutputOptions};

use crate::error;
use crate::pass::states::{FileStates, Volume};

/// Where a call writes its result. Converts from a [`Publication`] and from anything that becomes a
/// [`Location`].
#[derive(Clone)]
pub enum Destination<'h> {
    /// To new files.
    New(Publication<'h>),
    /// To the place of the model: a file, named directly or through a link.
    ///
    /// [`Flush`] applies to bytes written into the existing file. A file that replaces the model is
    /// always synced first.
    InPlace(Flush),
}

/// New files that a call makes. None takes the place of an input, and several never replace others.
#[derive(Clone)]
pub struct Publication<'h> {
    /// The place of the model file. External files go beside it, under their relative paths.
    pub location: Location,
    /// How the files are written.
    pub options: OutputOptions,
    /// Whether external files keep the paths by which the model that is read names them, even where
    /// [`protect`](crate::protect()) would choose others and [`unprotect`](crate::unprotect())
    /// would restore the original's.
    pub keep_paths: bool,
    /// The hook to call before the files get their names.
    pub hook: Option<&'h dyn PublishHook>,
}

/// A call made before outputs get their names, to record them or make room for them.
pub trait PublishHook: Sync {
    /// Runs once per call, when all outputs are written; they get their names after it returns. An
    /// error ends the call with [`Error::Refused`](crate::Error::Refused).
    fn publish(&self, made: &Made) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// Returns whether the call computes digests of all files, which makes it about 50 % slower.
    fn wants_digests(&self) -> bool {
        false
    }

    /// Returns whether the hook removes files that are in the way of outputs. If so, the call
    /// ignores them until the hook has run.
    fn makes_room(&self) -> bool {
        false
    }
}

/// The files that a call has read, and the files that it is about to publish.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Made {
    /// The files, with the digests that the hook asked for.
    pub files: FileStates,
    /// How much of the weights is encrypted, if the call planned that.
    pub weights: Option<Volume>,
}

impl<'h> Destination<'h> {
    /// Chooses new files at `output`, or the place of the model without one.
    pub fn new(output: Option<impl Into<Location>>, options: OutputOptions) -> Destination<'h> {
        match output {
            Some(output) => Destination::New(Publication::new(output, options)),
            None => Destination::InPlace(options.flush),
        }
    }

    /// Returns where to read the model at `location`: with links resolved if it is changed in
    /// place.
    pub(crate) fn source(&self, location: Location) -> error::Result<Location> {
        match self {
            Destination::New(_) => Ok(location),
            Destination::InPlace(_) => match location {
                Location::Changed(Changed { of, by }) => {
                    let of = Box::new(of.in_place()?.into());
                    Ok(Changed { of, by }.into())
                }
                location => Ok(location.in_place()?.into()),
            },
        }
    }

    /// Returns where the model at `location` goes, if external data may get other names there: not
    /// if the caller has planned all outputs.
    pub(crate) fn renames<'l>(&'l self, location: &'l Location) -> Option<&'l Location> {
        match self {
            Destination::New(to) => Some(&to.location).filter(|_| !to.keep_paths),
            Destination::InPlace(_) => Some(location),
        }
    }

    /// Locks `model` if this call changes it in place, so that two calls do not overwrite each
    /// other's change.
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
    /// Chooses new files at `location`, without a hook.
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
    /// Chooses new files at `location` that replace nothing.
    fn from(location: L) -> Self {
        Publication::new(location, OutputOptions::default())
    }
}
