//! The files of a model, and the changes of a key in them.

use onnxseal_store::{Location, OutputOptions};

use crate::error::Result;
use crate::key::{InputKey, Spec};
use crate::rewrite::Written;
use crate::rewrite::patch::patch;
use crate::rewrite::report::{Candidate, inspect};
use crate::rewrite::work::{Rewritten, rekey, rewrite};

/// The files of a model, open for reading.
#[derive(Debug)]
pub struct Files(pub(super) onnxseal_rewrite::Files);

impl Files {
    /// Opens a model and its external data.
    pub fn open(model: &Location) -> Result<Files> {
        Ok(Files(onnxseal_rewrite::Files::open(model)?))
    }

    /// Reports on each input that may take images; see [`inspect`].
    pub fn inspect(&self) -> Result<Vec<Candidate>> {
        self.0.with(inspect)
    }

    /// Returns the edits that make the model take images made with `key`; see [`rewrite`].
    pub fn rewrite(&self, key: &InputKey, input: Option<&str>) -> Result<Rewritten> {
        self.0.with(|source| rewrite(source, key, input))
    }

    /// Returns the edits that make the model take images made with `new` instead of `old`; see
    /// [`rekey`].
    pub fn rekey(&self, old: &InputKey, new: &InputKey, input: Option<&str>) -> Result<Rewritten> {
        self.0.with(|source| rekey(source, old, new, input))
    }

    /// Returns the weights that a key of this kind would change; see [`patch`].
    pub fn patch(&self, spec: &Spec) -> Result<nalgebra::DMatrix<f64>> {
        self.0.with(|source| patch(source, spec))
    }

    /// Writes the model and its external data with edits; see [`onnxseal_rewrite::Files::write`].
    pub fn write(
        &self,
        rewritten: &Rewritten,
        output: &Location,
        options: OutputOptions,
    ) -> Result<Written> {
        Ok(self.0.write(&rewritten.edits, output, options)?)
    }
}
