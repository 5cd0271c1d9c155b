//! All files of a model, written together.

use std::collections::HashSet;

use onnxseal_onnx::external;
use onnxseal_store::{
    Error as StoreError, Input, Location, Output, OutputOptions, Published, Stamp,
};

use crate::error::{Error, Result, Usage};
use crate::format::manifest::File;
use crate::pass::chunks::Chunk;
use crate::pass::publish::{Made, Publication, PublishHook};

/// The place of a file of a model that is to be written.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) location: Location,
    /// Its length in bytes, without a tail that may follow.
    pub(crate) len: u64,
    /// The number of folders above it that the model, not the caller, has named.
    pub(crate) below: usize,
}

/// Outputs for the files of a model, in the order of the manifest: the model file first.
pub(crate) struct Outputs<'h> {
    files: Vec<Output>,
    options: OutputOptions,
    hook: Option<&'h dyn PublishHook>,
}

impl<'h> Outputs<'h> {
    /// Begins the files at `destinations`.
    ///
    /// # Errors
    /// [`StoreError::OutputExists`] unless the options replace it; [`Error::ReplaceSeveral`] if one of
    /// several exists.
    pub(crate) fn create(
        destinations: Vec<Destination>,
        publication: Publication<'h>,
    ) -> Result<Outputs<'h>> {
        let Publication { mut options, hook } = publication;
        let several = options.replace && destinations.len() > 1;
        // Several files are never replaced, even if they appear only now.
        options.replace &= !several;
        let mut outputs = Outputs {
            files: Vec::new(),
            options,
            hook,
        };
        for destination in &destinations {
            let begun = outputs.begin(destination, destinations.len());
            let output = begun.map_err(|error| match error {
                Error::Store(StoreError::OutputExists { path }) if several => {
                    Error::ReplaceSeveral { path }
                }
                error => error,
            })?;
            outputs.files.push(output);
        }
        Ok(outputs)
    }

    /// Begins the file that will take the place of `model`, in one step, once it is on the disk, and
    /// the `external` files beside it. The external files replace nothing.
    pub(crate) fn in_place(model: &Input, external: &[Destination]) -> Result<Outputs<'h>> {
        let mut options = OutputOptions::default();
        options.replace = true;
        // The external files too: without them the model that takes the place is none.
        options.flush = onnxseal_store::Flush::ToDisk;
        let location = Location::File(model.path.clone());
        let mut outputs = Outputs {
            files: Vec::new(),
            options,
            hook: None,
        };
        let len = model.len;
        let destination = Destination {
            location,
            len,
            below: 0,
        };
        let n_files = 1 + external.len();
        outputs.files.push(begin_at(&destination, true, n_files)?);
        for destination in external {
            outputs.files.push(begin_at(destination, false, n_files)?);
        }
        // The external files are new ones, and are nobody's yet.
        if let (Some(like), Some(file)) = (model.metadata()?, outputs.files.first_mut()) {
            file.take_place_of(&like);
        }
        Ok(outputs)
    }

    fn begin(&self, destination: &Destination, n_files: usize) -> Result<Output> {
        let makes_room = self.hook.is_some_and(PublishHook::makes_room);
        let replace = self.options.replace || makes_room;
        begin_at(destination, replace, n_files)
    }

    /// The outputs, in the order of the manifest.
    pub(crate) fn files(&self) -> &[Output] {
        &self.files
    }

    /// Whether a hook is called before the outputs get their names.
    pub(crate) fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// Whether the hook wants digests of the files.
    pub(crate) fn wants_digests(&self) -> bool {
        self.hook.is_some_and(PublishHook::wants_digests)
    }

    /// What will tell, for each file in turn, whether it is another by then.
    pub(crate) fn stamps(&self) -> Result<Vec<Option<Stamp>>> {
        let stamps = self.files.iter().map(Output::stamp);
        Ok(stamps.collect::<onnxseal_store::Result<_>>()?)
    }

    /// Calls the hook, if there is one.
    pub(crate) fn call_hook(&self, made: &Made) -> Result<()> {
        let called = self.hook.map_or(Ok(()), |hook| hook.publish(made));
        called.map_err(Error::Refused)
    }

    /// Writes a chunk.
    pub(crate) fn write(&self, chunk: &Chunk, bytes: &[u8]) -> Result<()> {
        let file = self.files.get(chunk.file());
        let file = file.ok_or(Error::Internal("a chunk of a file without an output"))?;
        Ok(file.write_all_at(bytes, chunk.window.start)?)
    }

    /// Writes the tail of the model file, whose original has `model_bytes`.
    pub(crate) fn write_tail(&self, tail: &[u8], model_bytes: u64) -> Result<()> {
        let model = self.files.first();
        let model = model.ok_or(Error::Internal("a model without a file"))?;
        model.write_all_at(tail, model_bytes)?;
        // A clone of the input may have begun with a longer tail.
        Ok(model.truncate(model_bytes + tail.len() as u64)?)
    }

    /// Writes all of the model file.
    pub(crate) fn write_model(&self, bytes: &[u8]) -> Result<()> {
        const PIECE: usize = 1 << 20;
        let model = self.files.first();
        let model = model.ok_or(Error::Internal("a model without a file"))?;
        let pieces = bytes.chunks(PIECE).zip((0..).step_by(PIECE));
        pieces
            .into_iter()
            .try_for_each(|(piece, at)| model.write_all_at(piece, at))?;
        Ok(())
    }

    /// Whether one of them is behind a network.
    pub(crate) fn is_remote(&self) -> bool {
        self.files.iter().any(Output::is_remote)
    }

    /// Gives all files the permissions of `inputs`, and their names. The model file is last: as long as
    /// it is absent, nobody finds a model in part. On failure no name is left behind.
    pub(crate) fn publish<'a>(mut self, inputs: impl Iterator<Item = &'a Input>) -> Result<()> {
        let flush = self.options.flush;
        self.files.iter().try_for_each(|file| file.finish(flush))?;
        let like: onnxseal_store::Result<Vec<_>> = inputs.map(Input::metadata).collect();
        let mut like = like?;
        let mut published = Vec::new();
        while let (Some(output), Some(like)) = (self.files.pop(), like.pop()) {
            let mut options = self.options;
            // Only one file can take the place of another in one step: the last, the model file.
            options.replace &= self.files.is_empty();
            match output.publish(like.as_ref(), options) {
                Ok(file) => published.push(file),
                Err(error) => {
                    // They replaced nothing, so nobody misses them.
                    published.into_iter().for_each(Published::remove);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }
}

impl Drop for Outputs<'_> {
    fn drop(&mut self) {
        // The last first: its folders may lie within the folders of an earlier one.
        while self.files.pop().is_some() {}
    }
}

/// Begins one of `n_files` outputs. Files without a name are lost once they are closed, so all stay open.
fn begin_at(destination: &Destination, replace: bool, n_files: usize) -> Result<Output> {
    let begun = match &destination.location {
        Location::File(path) => Output::create_below(path, destination.below, replace),
        location => Output::create(location, replace, destination.len),
    };
    Ok(begun.map_err(|error| error.needing(n_files))?)
}

/// The destinations of the `files` of a manifest if the model file goes to `output`: external files
/// keep their relative paths.
///
/// # Errors
/// [`Error::OutputIsInput`] if one of them is one of `inputs`; [`Usage::SameOutput`] if two are one, and
/// [`Usage::FileAndFolder`]; [`Error::ExternalName`], see [`check_names`].
pub(crate) fn paths<'a>(
    output: &Location,
    files: &[File],
    inputs: impl Iterator<Item = &'a Input>,
) -> Result<Vec<Destination>> {
    check_names(output, files)?;
    let external = files.iter().skip(1).map(|file| output.beside(&file.path));
    let locations = std::iter::once(output.clone()).chain(external);
    destinations(locations.zip(files), inputs)
}

/// The destinations of the external files of a model that stays where it is.
pub(crate) fn paths_beside<'a>(
    model: &Location,
    files: &[File],
    inputs: impl Iterator<Item = &'a Input>,
) -> Result<Vec<Destination>> {
    check_names(model, files)?;
    let external = files.get(1..).unwrap_or_default();
    let locations = external.iter().map(|file| model.beside(&file.path));
    destinations(locations.zip(external), inputs)
}

fn destinations<'f, 'a>(
    files: impl Iterator<Item = (Location, &'f File)>,
    inputs: impl Iterator<Item = &'a Input>,
) -> Result<Vec<Destination>> {
    let inputs: HashSet<Location> = inputs.filter_map(Input::location).collect();
    let mut seen = HashSet::new();
    let mut destinations = Vec::new();
    for (location, file) in files {
        let found = location.canonical();
        if found.is_some_and(|found| inputs.contains(&found)) {
            let path = location.to_name();
            return Err(Error::OutputIsInput { path });
        }
        if !seen.insert(location.clone()) {
            let output = location;
            return Err(Usage::SameOutput { output }.into());
        }
        let (len, below) = (file.bytes, file.path.matches('/').count());
        destinations.push(Destination {
            location,
            len,
            below,
        });
    }
    let mut folders = destinations.iter().map(|file| &file.location);
    match folders.find_map(|file| folder_among(file, &seen)) {
        Some(output) => Err(Usage::FileAndFolder { output }.into()),
        None => Ok(destinations),
    }
}

/// The first folder above `file` that is to be a file too.
fn folder_among(file: &Location, all: &HashSet<Location>) -> Option<Location> {
    let Location::File(path) = file else {
        return None;
    };
    let folders = path.ancestors().skip(1);
    let mut folders = folders.map(|folder| Location::File(folder.to_owned()));
    folders.find(|folder| all.contains(folder))
}

/// Fails if an external file of `model` has a name that onnxseal does not write: other programs may
/// give hidden files a meaning, and onnxseal has hidden files of its own.
///
/// # Errors
/// [`Error::ExternalName`].
pub(crate) fn check_names(model: &Location, files: &[File]) -> Result<()> {
    let external = files.iter().skip(1);
    external
        .map(|file| external::check_plain(&file.path))
        .try_for_each(|checked| checked)
        .map_err(|source| Error::ExternalName {
            path: model.to_name(),
            source,
        })
}
