//! Where the outputs of a model and its record lie, and what lies there.

use std::path::{Path, PathBuf};

use onnxseal_core::{ErrorKind, FileState, Manifest, Outline, io};
use onnxseal_store::{Input, Location, draft, folder_of, no_links};

use crate::RECORDS;
use crate::discover::Found;
use crate::error::{Error, Result};
use crate::shard::key;

/// The place of a model's outputs and its record.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) out: &'a Location,
    pub(crate) found: &'a Found,
    pub(crate) output: Location,
    pub(crate) record: Location,
    /// The path of the record below the output folder.
    record_path: PathBuf,
}

impl<'a> Target<'a> {
    pub(crate) fn new(out: &'a Location, found: &'a Found) -> Result<Target<'a>> {
        let name = blake3::hash(&key(&found.relative)).to_hex();
        let name = name.get(..32).unwrap_or_default();
        let record_path = Path::new(RECORDS).join(format!("{name}.json"));
        Ok(Target {
            out,
            found,
            output: out.join(&found.relative)?,
            record: out.join(&record_path)?,
            record_path,
        })
    }

    /// Returns the location of the output for a file of the model.
    pub(crate) fn location(&self, path: &str) -> Location {
        beside(&self.output, path)
    }

    /// Returns the path of the output for a file, below the output folder.
    fn relative(&self, path: &str) -> PathBuf {
        match path {
            "" => self.found.relative.clone(),
            path => self.found.relative.with_file_name(path),
        }
    }

    /// Fails if a folder between the output folder and the outputs of the model and its `external`
    /// files is a link.
    pub(crate) fn check_folders(&self, external: &[String]) -> Result<()> {
        if let Location::File(out) = self.out {
            for path in with_model(external) {
                let name = self.location(path).to_name();
                let checked = no_links::check_folders(out, &self.relative(path));
                checked.map_err(io("reach", &name))?;
            }
        }
        Ok(())
    }

    /// Removes the files that killed processes left in the folders of the outputs and the record.
    pub(crate) fn sweep(&self, external: &[String]) {
        let outputs = with_model(external).map(|path| self.location(path));
        for location in outputs.chain([self.record.clone()]) {
            if let Location::File(path) = location {
                draft::sweep(folder_of(&path));
            }
        }
    }

    /// Opens the output for a file, if it exists, without following links.
    pub(crate) fn open(&self, path: &str) -> Result<Option<Input>> {
        self.open_at(&self.location(path), &self.relative(path))
    }

    pub(crate) fn open_record(&self) -> Result<Option<Input>> {
        self.open_at(&self.record, &self.record_path)
    }

    fn open_at(&self, location: &Location, relative: &Path) -> Result<Option<Input>> {
        match (self.out, location) {
            (Location::File(out), Location::File(name)) => {
                let foreign = |_| Error::OutputForeign { path: name.clone() };
                let file = no_links::open(out, relative).map_err(foreign)?;
                Ok(file.map(|file| Input::of(name, file)).transpose()?)
            }
            _ if !location.exists()? => Ok(None),
            _ => Ok(Some(Input::open(location)?)),
        }
    }

    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        match (self.out, self.location(path)) {
            (Location::File(out), Location::File(name)) => {
                let removed = no_links::remove(out, &self.relative(path));
                Ok(removed.map_err(io("remove", &name))?)
            }
            (_, location) => Ok(location.remove()?),
        }
    }

    /// Reads the manifest of the existing model, if it is protected.
    pub(crate) fn protected(&self) -> Result<Option<Manifest>> {
        let Some(model) = self.open("")? else {
            return Ok(None);
        };
        match Outline::of(model).manifest() {
            Ok(protected) => Ok(protected),
            Err(error) if error.kind() == ErrorKind::Io => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Returns whether the existing outputs are all files of one protected model, as `made` says.
    pub(crate) fn is_whole(&self, made: &[FileState]) -> Result<bool> {
        let Some(protected) = self.protected()? else {
            return Ok(false);
        };
        let files = protected.files().iter().skip(1);
        Ok(files
            .map(|file| (&file.path, file.bytes))
            .eq(made.iter().skip(1).map(|file| (&file.path, file.bytes))))
    }
}

/// Returns the paths of a model file and its `external` files.
pub(crate) fn with_model(external: &[String]) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(external.iter().map(String::as_str))
}

/// Returns the location of a file of the model at `model`.
pub(crate) fn beside(model: &Location, file: &str) -> Location {
    match file {
        "" => model.clone(),
        file => model.beside(file),
    }
}
