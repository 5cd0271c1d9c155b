//! The files that a caller names for a call to read. No output takes the place of one.

use std::path::{Path, PathBuf};

use onnxseal_store::{Location, is_same_file, shown};

use crate::error::{Error, Result};
use crate::format::licence::LICENCE_SUFFIX;
use crate::named::keys::LICENCE_VARIABLE;
use crate::pass::source::Source;

/// The files that a caller names for a call to read.
#[derive(Clone, Debug, Default)]
pub struct NamedInputs {
    /// Keys, policies, lists, data: files, and folders of them.
    pub files: Vec<PathBuf>,
    /// Models. Their external data are read too.
    pub models: Vec<Location>,
    /// Whether the call may open the models with licences: the one that the environment names, and
    /// those beside the models.
    pub takes_licences: bool,
}

impl NamedInputs {
    /// Checks that the file at `output` is none of these, by whatever name, and that it lies in none of
    /// the folders. Where there is no file yet, nothing can be lost.
    pub fn check(&self, output: &Path) -> Result<()> {
        if !output.is_file() {
            return Ok(());
        }
        let at = Location::from(output);
        let is_read = |file: &&PathBuf| {
            is_same_file(output, file) || file.is_dir() && at.lies_in(&(*file).into())
        };
        if let Some(file) = self.files.iter().find(is_read) {
            let (output, file) = (shown(output), shown(file));
            let fault = format!("{output} would be written over {file}, which is read");
            return Err(Error::Usage(fault));
        }
        let is_licence = self.takes_licences && self.is_licence(output);
        if is_licence || self.models.iter().any(|model| is_of_model(output, model)) {
            return Err(Error::OutputIsInput(output.to_owned()));
        }
        Ok(())
    }

    fn is_licence(&self, output: &Path) -> bool {
        let beside = self.models.iter().map(|model| {
            let mut name = model.to_name().into_os_string();
            name.push(LICENCE_SUFFIX);
            name
        });
        let mut licences = beside.chain(std::env::var_os(LICENCE_VARIABLE));
        licences.any(|licence| is_same_file(output, licence.as_ref()))
    }
}

/// Whether `output` is the model file or has its external data.
fn is_of_model(output: &Path, model: &Location) -> bool {
    let Location::File(path) = model else {
        return false;
    };
    if is_same_file(output, path) {
        return true;
    }
    // What cannot be read is no model, and whoever opens it says so.
    let external = || {
        let source = Source::open(model).ok()?;
        Some(source.locate(source.input.len).ok()?.external_files)
    };
    path.is_file()
        && external().is_some_and(|external| {
            let mut files = external.iter().map(|file| model.beside(file).to_name());
            files.any(|file| is_same_file(output, &file))
        })
}
