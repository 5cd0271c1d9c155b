//! The files that a caller names for a call to read. No output takes the place of one.

use std::path::{Path, PathBuf};

use onnxseal_store::{Location, is_same_file, shown};

use crate::error::{Error, Result};
use crate::pass::source::Source;

/// The files that a caller names for a call to read.
#[derive(Clone, Debug, Default)]
pub struct NamedInputs {
    /// Keys, policies, lists, data: files, and folders of them.
    pub files: Vec<PathBuf>,
    /// Models. Their external data are read too.
    pub models: Vec<Location>,
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
        if self.models.iter().any(|model| is_of_model(output, model)) {
            return Err(Error::OutputIsInput(output.to_owned()));
        }
        Ok(())
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
