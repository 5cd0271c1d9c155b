//! Writes all files of a model together.

use std::collections::HashSet;
use std::path::Path;

use onnxseal_onnx::external;
use onnxseal_store::{
    Error as StoreError, Flush, Input, Location, Output, OutputOptions, Published, Stamp,
    check_no_stream,
};

use crate::error::{Error, Result};
use crate::format::manifest::File;
use crate::pass::chunks::Chunk;
use crate::pass::publish::{Destination, Made, Publication, PublishHook};

/// The place of a file of a model that is to be written.
#[derive(Debug)]
struct Place {
    location: Location,
    /// The length in bytes, without the tail.
    len: u64,
    /// The number of folders above the file that the model named, rather than the caller.
    below: usize,
}

/// Outputs for the files of a model, in the order of the manifest: the model file first.
pub(crate) struct Outputs<'h> {
    files: Vec<Output>,
    options: OutputOptions,
    hook: Option<&'h dyn PublishHook>,
    /// Whether the model file takes the place of the one that is read.
    in_place: bool,
}

impl<'h> Outputs<'h> {
    /// Begins the `files` of a manifest at `destination`. `inputs` are the files they are made
    /// from, the model file first.
    ///
    /// # Errors
    /// As [`Outputs::create`].
    pub(crate) fn begin<'a>(
        destination: Destination<'h>,
        files: &[File],
        inputs: impl Iterator<Item = &'a Input>,
    ) -> Result<Outputs<'h>> {
        match destination {
            Destination::New(publication) => Outputs::create(publication, files, inputs),
            Destination::InPlace(_) => Outputs::in_place(files, inputs),
        }
    }

    /// Begins new files.
    ///
    /// # Errors
    /// [`StoreError::OutputExists`] unless the options replace it; [`Error::ReplaceSeveral`] if one
    /// of several exists; and as [`places`].
    pub(crate) fn create<'a>(
        publication: Publication<'h>,
        files: &[File],
        inputs: impl Iterator<Item = &'a Input>,
    ) -> Result<Outputs<'h>> {
        let Publication {
            location,
            mut options,
            keep_paths: _,
            hook,
        } = publication;
        let mut inputs = inputs.peekable();
        let model = inputs.peek().map(|model| &*model.path);
        check_names(model.unwrap_or(Path::new("")), files)?;
        let places = places(located(&location, files), inputs)?;
        // A hook keeps a record of files.
        if places.len() > 1 || hook.is_some() {
            check_no_stream(&location)?;
        }
        let several = options.replace && places.len() > 1;
        // Never replace several files, even if they appear only now.
        options.replace &= !several;
        let replace = options.replace || hook.is_some_and(PublishHook::makes_room);
        let mut outputs = Outputs {
            files: Vec::new(),
            options,
            hook,
            in_place: false,
        };
        for place in &places {
            let begun = outputs.add(place, replace, places.len());
            begun.map_err(|error| match error {
                StoreError::OutputExists(path) if several => Error::ReplaceSeveral(path),
                error => error.into(),
            })?;
        }
        Ok(outputs)
    }

    /// Begins the file that replaces the model in one step, once it is on the disk, and new
    /// external files beside it.
    fn in_place<'a>(
        files: &[File],
        inputs: impl Iterator<Item = &'a Input>,
    ) -> Result<Outputs<'h>> {
        let mut inputs = inputs.peekable();
        let model = inputs.peek().copied();
        let model = model.ok_or(Error::Internal("a model without a file"))?;
        let location = model.path.clone().into();
        check_names(&model.path, files)?;
        let external = places(located(&location, files).skip(1), inputs)?;
        let mut options = OutputOptions::default();
        options.replace = true;
        // Sync the external files too: the new model is unusable without them.
        options.flush = Flush::ToDisk;
        let mut outputs = Outputs {
            files: Vec::new(),
            options,
            hook: None,
            in_place: true,
        };
        let n_files = 1 + external.len();
        let place = Place {
            location,
            len: model.len,
            below: 0,
        };
        outputs.add(&place, true, n_files)?;
        for place in &external {
            outputs.add(place, false, n_files)?;
        }
        // Only the model file has a predecessor whose owner and permissions it can take.
        if let (Some(like), Some(file)) = (model.metadata()?, outputs.files.first_mut()) {
            file.take_place_of(&like);
        }
        Ok(outputs)
    }

    /// Begins one of `n_files` outputs. Files without a name are lost once they are closed, so all
    /// stay open.
    fn add(&mut self, place: &Place, replace: bool, n_files: usize) -> onnxseal_store::Result<()> {
        let begun = match &place.location {
            Location::File(path) => Output::create_below(path, place.below, replace),
            location => Output::create(location, replace, place.len),
        };
        let output = begun.map_err(|error| error.needing(n_files))?;
        self.files.push(output);
        Ok(())
    }

    /// Returns the outputs, in the order of the manifest.
    pub(crate) fn files(&self) -> &[Output] {
        &self.files
    }

    /// Returns whether a hook is called before the outputs get their names.
    pub(crate) fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// Returns whether the hook wants digests of the files.
    pub(crate) fn wants_digests(&self) -> bool {
        self.hook.is_some_and(PublishHook::wants_digests)
    }

    /// Returns a stamp for each file, which later tells whether the file was changed.
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

    /// Returns whether writing one of the outputs waits for a network.
    pub(crate) fn is_remote(&self) -> bool {
        self.files.iter().any(Output::is_remote)
    }

    /// Gives all files the permissions of `inputs`, and their names. The model file comes last, so
    /// nobody finds part of a model. On failure no name is left behind.
    ///
    /// # Errors
    /// `Io`, also if another file took the place of the model to be replaced.
    pub(crate) fn publish<'a>(mut self, inputs: impl Iterator<Item = &'a Input>) -> Result<()> {
        let inputs: Vec<&Input> = inputs.collect();
        if self.in_place {
            inputs
                .first()
                .map_or(Ok(()), |model| model.check_in_place())?;
        }
        let flush = self.options.flush;
        self.files.iter().try_for_each(|file| file.finish(flush))?;
        let like = inputs.into_iter().map(Input::permitted);
        let mut like: Vec<_> = like.collect::<onnxseal_store::Result<_>>()?;
        let mut published = Vec::new();
        while let (Some(output), Some(like)) = (self.files.pop(), like.pop()) {
            let mut options = self.options;
            // Only one file can take the place of another in one step: the last, the model file.
            options.replace &= self.files.is_empty();
            match output.publish(like, options) {
                Ok(file) => published.push(file),
                Err(error) => {
                    // They replaced nothing, so removing them restores what was there.
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
        // The last first: its folders may lie inside those of an earlier one.
        while self.files.pop().is_some() {}
    }
}

/// Returns the locations of the `files` of a manifest if the model file goes to `model`: external
/// files keep their relative paths.
fn located<'f>(
    model: &'f Location,
    files: &'f [File],
) -> impl Iterator<Item = (Location, &'f File)> {
    let external = files.iter().skip(1).map(|file| model.beside(&file.path));
    std::iter::once(model.clone()).chain(external).zip(files)
}

/// Returns the places of `files`, each at its location. Fails if one is in `inputs`, or if two coincide
/// or need a file where another needs a folder.
fn places<'f, 'a>(
    files: impl Iterator<Item = (Location, &'f File)>,
    inputs: impl Iterator<Item = &'a Input>,
) -> Result<Vec<Place>> {
    let inputs: HashSet<Location> = inputs.filter_map(Input::location).collect();
    let mut seen = HashSet::new();
    let mut places = Vec::new();
    for (location, file) in files {
        let found = location.canonical();
        if found.is_some_and(|found| inputs.contains(&found)) {
            let path = location.to_name();
            return Err(Error::OutputIsInput(path));
        }
        if !seen.insert(location.clone()) {
            return Err(Error::Usage(format!(
                "two files of the model would be written to {location}"
            )));
        }
        let (len, below) = (file.bytes, file.path.matches('/').count());
        places.push(Place {
            location,
            len,
            below,
        });
    }
    let mut folders = places.iter().map(|file| &file.location);
    match folders.find_map(|file| folder_among(file, &seen)) {
        Some(output) => Err(Error::Usage(format!(
            "a file of the model and a folder of others would both be written to {output}"
        ))),
        None => Ok(places),
    }
}

/// Returns the first folder above `file` that is in `all`, the files to write.
fn folder_among(file: &Location, all: &HashSet<Location>) -> Option<Location> {
    let Location::File(path) = file else {
        return None;
    };
    let folders = path.ancestors().skip(1);
    let mut folders = folders.map(|folder| Location::File(folder.to_owned()));
    folders.find(|folder| all.contains(folder))
}

/// Fails if an external file of `model` has a name that onnxseal does not write. Hidden files are
/// among them: other programs may give them a meaning, and onnxseal makes some itself.
///
/// # Errors
/// [`Error::ExternalName`].
pub(crate) fn check_names(model: &Path, files: &[File]) -> Result<()> {
    let external = files.iter().skip(1);
    external
        .map(|file| external::check_plain(&file.path))
        .try_for_each(|checked| checked)
        .map_err(|source| Error::ExternalName {
            path: model.to_owned(),
            source,
        })
}
