//! The manifest: the contents of `onnxseal.manifest`, checked against the rules of
//! `docs/FORMAT.md`.

use std::collections::BTreeMap;

use onnxseal_onnx::edit::Edits;

use crate::error::{self, Error};
use crate::format::manifest::draft::Draft;

pub(crate) mod check;
pub(crate) mod draft;
pub(crate) mod json;
pub(crate) mod targets;
pub(crate) mod tensor;

pub use draft::{DEFAULT_CHUNK_BYTES, FORMAT, File, MAX_MANIFEST_BYTES, SUITE};
pub use targets::Targets;
pub use tensor::{ElementType, Mode, Operator, Tensor};

/// Says which bytes of a protected model are encrypted, and how. It contains no key.
///
/// Every value of this type obeys the rules of `docs/FORMAT.md`: [`Manifest::parse`] makes it.
#[derive(Debug)]
pub struct Manifest {
    draft: Draft,
    /// The edits that turn the model file into the original one, if external data files were renamed.
    pub(crate) original: Option<Edits>,
}

impl Draft {
    pub(crate) fn into_manifest(self) -> Result<Manifest, String> {
        let (original, draft) = (self.check()?, self);
        Ok(Manifest { draft, original })
    }
}

impl Manifest {
    /// Parses and checks the bytes of `onnxseal.manifest`. The error says which rule of
    /// `docs/FORMAT.md` is broken.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
        Draft::parse(bytes)?.into_manifest()
    }

    pub(crate) fn layout(files: Vec<File>) -> error::Result<Manifest> {
        Draft::of_files(files).into_manifest().map_err(Error::Usage)
    }

    /// Bytes in a chunk.
    pub fn chunk_bytes(&self) -> u64 {
        self.draft.chunk
    }

    /// Returns the model file, then the external data files.
    pub fn files(&self) -> &[File] {
        &self.draft.files
    }

    /// Statements of the publisher, authenticated.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.draft.claims
    }

    /// Returns every tensor of which some part is encrypted, in file order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.draft.tensors
    }

    /// Returns the names of the tiers, the least first; empty if the model has one edition only.
    pub fn tier_names(&self) -> &[String] {
        &self.draft.tiers
    }

    /// The number of tiers; 1 if the model has one edition only.
    pub fn n_tiers(&self) -> u8 {
        self.draft.n_tiers() as u8
    }

    /// Returns whether the tail has the lock, with which programs refuse the model without the key.
    pub fn is_locked(&self) -> bool {
        self.draft.lock
    }

    /// Returns the name of a tier, counted from 1; empty if the model has one edition only.
    pub(crate) fn tier_name(&self, tier: u8) -> &str {
        let name = self.tier_names().get(usize::from(tier).saturating_sub(1));
        name.map_or("", String::as_str)
    }

    pub(crate) fn tier_named(&self, name: &str) -> Option<u8> {
        let index = self.tier_names().iter().position(|of| of == name)?;
        Some(index as u8 + 1)
    }

    /// Returns whether opening restores names of external data files that protecting changed.
    pub fn restores_names(&self) -> bool {
        self.original.is_some()
    }

    /// Returns the files of the original, in the order of [`Manifest::files`]. They differ from
    /// these only if external data files were renamed.
    pub fn original_files(&self) -> Vec<File> {
        match &self.draft.original {
            Some(original) => original.files(self.files()),
            None => self.files().to_vec(),
        }
    }

    /// Length of the original model file in bytes.
    pub fn model_bytes(&self) -> u64 {
        self.files().first().map_or(0, |model| model.bytes)
    }

    /// Length of all files together in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files().iter().map(|file| file.bytes).sum()
    }

    pub(crate) fn n_chunks(&self) -> u64 {
        let n_chunks = |file: &File| file.bytes.div_ceil(self.chunk_bytes());
        self.files().iter().map(n_chunks).sum()
    }
}
