//! Writes all files of a model together.

use std::collections::HashSet;
use std::path::Path;

use onnxseal_onnx::external;
use onnxseal_store::{
    Error as StoreError, Flush, Input, Location, Output, OutputOptions, Published, check_no_stream,
    create,
};

use crate::error::{Error, Result};
use crate::format::manifest::File;
use crate::pass::publish::{Destination, Publication, PublishHook};

/// Outputs for the files of a model, in the order of the manifest: the model file first.
pub(crate) struct Outputs<'h> {
    pub(crate) files: Vec<Box<dyn Output>>,
    options: OutputOptions,
    pub(crate) hook: Option<&'h dyn PublishHook>,
    /// Whether the model file takes the place of the one that is read.
    in_place: bool,
}

impl<'h> Outputs<'h> {
    /// Begins the `files` of a manifest at `destination`. `inputs` are the files they are made
    /// from, the model file first. In place, the new model file replaces the old one in one step, once
    /// it is on the disk; external files are new.
    pub(crate) fn begin<'a>(
        destination: impl Into<Destination<'h>>,
        files: &[File],
        inputs: impl Iterator<Item = &'a Input>,
    ) -> Result<Outputs<'h>> {
        let inputs: Vec<&Input> = inputs.collect();
        let model = inputs.first().ok_or(NO_MODEL)?;
        check_names(&model.path, files)?;
        let (to, in_place) = match destination.into() {
            Destination::New(publication) => (publication, false),
            Destination::InPlace(_) => {
                let mut to = Publication::from(&*model.path);
                to.options.replace = true;
                // Sync the external files too: the new model is unusable without them.
                to.options.flush = Flush::ToDisk;
                (to, true)
            }
        };
        let places = places(&to.location, files, &inputs, in_place)?;
        let (hook, mut options, is_single) = (to.hook, to.options, places.len() == 1);
        // A hook keeps a record of files.
        if !in_place && (!is_single || hook.is_some()) {
            check_no_stream(&to.location)?;
        }
        let several = options.replace && !in_place && !is_single;
        // Never replace several files, even if they appear only now.
        options.replace &= !several;
        let replace = options.replace || hook.is_some_and(PublishHook::makes_room);
        let mut outputs = Outputs {
            files: Vec::new(),
            options,
            hook,
            in_place,
        };
        for (location, file) in &places {
            let replace = replace && (!in_place || file.path.is_empty());
            // The model named the folders of external files, rather than the caller.
            let below = file.path.matches('/').count();
            let output = create(location, below, replace, file.bytes);
            // Files without a name are lost once they are closed, so all stay open.
            outputs
                .files
                .push(output.map_err(|error| match error.needing(places.len()) {
                    StoreError::OutputExists(path) if several => Error::ReplaceSeveral(path),
                    error => error.into(),
                })?);
        }
        // Only the model file has a predecessor whose owner and permissions it can take.
        if in_place && let (Some(like), Some(file)) = (model.metadata()?, outputs.files.first_mut())
        {
            file.take_place_of(&like);
        }
        Ok(outputs)
    }

    fn model(&self) -> Result<&dyn Output> {
        self.files.first().map(|file| &**file).ok_or(NO_MODEL)
    }

    /// Writes the tail of the model file, whose original has `model_bytes`.
    pub(crate) fn write_tail(&self, tail: &[u8], model_bytes: u64) -> Result<()> {
        let model = self.model()?;
        model.write_all_at(tail, model_bytes)?;
        // A clone of the input may have begun with a longer tail.
        Ok(model.truncate(model_bytes + tail.len() as u64)?)
    }

    pub(crate) fn write_model(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.model()?.write_all_at(bytes, 0)?)
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.files.iter().any(|file| file.file().is_none())
    }

    /// Gives all files the permissions of `inputs`, and their names. The model file comes last, so
    /// nobody finds part of a model. On failure, as when another file took the place of the model to be
    /// replaced, no name is left behind.
    pub(crate) fn publish<'a>(mut self, inputs: impl Iterator<Item = &'a Input>) -> Result<()> {
        let inputs: Vec<&Input> = inputs.collect();
        if self.in_place {
            inputs.first().ok_or(NO_MODEL)?.check_in_place()?;
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

const NO_MODEL: Error = Error::Internal("a model without a file");

impl Drop for Outputs<'_> {
    fn drop(&mut self) {
        // The last first: its folders may lie inside those of an earlier one.
        while self.files.pop().is_some() {}
    }
}

/// Returns the locations of the `files` of a manifest if the model file goes to `model`: external
/// files keep their relative paths. Fails if one is among `inputs`, apart from a model that is
/// replaced `in_place`, or if two coincide or need a file where another needs a folder.
fn places<'f>(
    model: &Location,
    files: &'f [File],
    inputs: &[&Input],
    in_place: bool,
) -> Result<Vec<(Location, &'f File)>> {
    let inputs: HashSet<Location> = inputs.iter().filter_map(|input| input.location()).collect();
    let external = files.iter().skip(1).map(|file| model.beside(&file.path));
    let locations = std::iter::once(model.clone()).chain(external);
    let places: Vec<_> = locations.zip(files).collect();
    let mut seen = HashSet::new();
    for (location, file) in &places {
        let found = location.canonical();
        let is_replaced = in_place && file.path.is_empty();
        if !is_replaced && found.is_some_and(|found| inputs.contains(&found)) {
            return Err(Error::OutputIsInput(location.to_name()));
        }
        if !seen.insert(location) {
            return Err(Error::Usage(format!(
                "two files of the model would be written to {location}"
            )));
        }
    }
    for (location, _) in &places {
        let Location::File(path) = location else {
            continue;
        };
        let mut folders = path.ancestors().skip(1).map(Location::from);
        if let Some(folder) = folders.find(|folder| seen.contains(folder)) {
            return Err(Error::Usage(format!(
                "a file of the model and a folder of others would both be written to {folder}"
            )));
        }
    }
    Ok(places)
}

/// Fails if an external file of `model` has a name that onnxseal does not write. Hidden files are
/// among them: other programs may give them a meaning, and onnxseal makes some itself.
pub(crate) fn check_names(model: &Path, files: &[File]) -> Result<()> {
    let mut external = files.iter().skip(1);
    let checked = external.try_for_each(|file| external::check_plain(&file.path));
    let path = model.to_owned();
    checked.map_err(|source| Error::ExternalName { path, source })
}
