//! The files that a call reads, by its arguments. No output takes the place of one.

use std::path::PathBuf;

use onnxseal_core::{Location, NamedInputs, identity_of_environment};

/// An argument that may name files.
pub trait NamesFiles {
    /// Adds the files to `files`.
    fn add_to(&self, files: &mut Vec<PathBuf>);
}

impl NamesFiles for PathBuf {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        files.push(self.clone());
    }
}

impl<T: NamesFiles> NamesFiles for Option<T> {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        self.iter().for_each(|named| named.add_to(files));
    }
}

/// The files that the arguments `named` name, those of `models`, and the identity file of the
/// environment.
pub fn reads(models: &[&Location], named: &[&dyn NamesFiles]) -> NamedInputs {
    let mut files = Vec::from_iter(identity_of_environment().ok().flatten());
    named.iter().for_each(|named| named.add_to(&mut files));
    NamedInputs {
        files,
        models: models.iter().map(|model| (*model).clone()).collect(),
    }
}
