//! A model file, open, and the structure in it.

use std::sync::OnceLock;

use onnxseal_onnx::model::{Payload, Span};
use onnxseal_onnx::{Model, Skim, external, foreign, tail};
use onnxseal_store::{Input, Location};

use crate::error::{Error, Result, external as external_error};
use crate::format::artifact::Artifact;
use crate::pass::structure::{MAX_STRUCTURE_BYTES, Structure};

/// An open model file, with a private copy of its structure once it is asked for.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) input: Input,
    structure: OnceLock<Structure>,
    /// The most bytes of the structure that are read and kept in memory.
    max_bytes: u64,
}

impl Source {
    pub(crate) fn open(location: &Location) -> Result<Source> {
        Ok(Source::of(Input::open(location)?))
    }

    pub(crate) fn of(input: Input) -> Source {
        Source::within(input, MAX_STRUCTURE_BYTES)
    }

    pub(crate) fn within(input: Input, max_bytes: u64) -> Source {
        let structure = OnceLock::new();
        Source {
            input,
            structure,
            max_bytes,
        }
    }

    /// Parses the tail, or returns `None` if the model is not protected.
    pub(crate) fn artifact(&self) -> Result<Option<Artifact>> {
        if self.input.is_remote() {
            // A request costs more than bytes that may not be needed.
            return Artifact::parse(&self.input.path, self.structure()?.bytes());
        }
        let fields = Structure::read(&self.input, self.max_bytes, Skim::FIELDS)?;
        Artifact::parse(&self.input.path, fields.bytes())
    }

    /// Returns the structure of the whole file, which is read once.
    pub(crate) fn structure(&self) -> Result<&Structure> {
        if let Some(structure) = self.structure.get() {
            return Ok(structure);
        }
        let how = match self.input.is_remote() {
            true => Skim::FAR,
            false => Skim::NEAR,
        };
        let structure = Structure::read(&self.input, self.max_bytes, how)?;
        Ok(self.structure.get_or_init(|| structure))
    }

    /// Returns where the structure lies, in ascending order, and frees the copy.
    pub(crate) fn take_structure(&mut self) -> Result<Vec<Span>> {
        self.structure()?;
        Ok(self.structure.take().unwrap_or_default().parts)
    }

    pub(crate) fn locate(&self, len: u64) -> Result<Model<'_>> {
        self.structure()?.locate(len)
    }

    /// Makes the error for a model without the metadata of a protected one.
    pub(crate) fn not_protected(&self) -> Error {
        let path = self.input.path.clone();
        match self.locate(self.input.len) {
            Ok(model) if tail::has_lock(&model) => Error::Stripped(path),
            _ => Error::NotProtected(path),
        }
    }

    /// Fails if `model`, located in this source, is protected, or was, or if programs may read it in
    /// several ways: some could read other weights than a plan encrypts.
    pub(crate) fn check_protectable(&self, model: &Model<'_>) -> Result<()> {
        let path = || self.input.path.clone();
        if tail::is_in(model) {
            return Err(Error::AlreadyProtected(path()));
        }
        if tail::has_lock(model) {
            return Err(Error::Stripped(path()));
        }
        let structure = self.structure()?;
        (model.check_unambiguous()).map_err(|source| structure.malformed(source))
    }

    /// Opens the external files of `model`, located in this source, and checks that its tensors lie
    /// within them.
    pub(crate) fn open_external(&self, model: &Model<'_>) -> Result<Vec<Input>> {
        let inputs = (self.input.open_all_beside(&model.external_files))
            .map_err(external_error(&self.input.path))?;
        inputs.iter().try_for_each(check_fetched)?;
        let structure = self.structure()?;
        for tensor in &model.tensors {
            if let Payload::Dense { file, .. } = tensor.payload
                && let Some(index) = (file.0 as usize).checked_sub(1)
                && let Some(input) = inputs.get(index)
            {
                external::check_extent(model, tensor, input.len)
                    .map_err(|source| structure.malformed(source))?;
            }
        }
        Ok(inputs)
    }
}

/// Fails if `input`, external data, stands for a file that was not fetched.
pub(crate) fn check_fetched(input: &Input) -> Result<()> {
    const MAX_POINTER_BYTES: u64 = 1024;
    if input.len > MAX_POINTER_BYTES {
        return Ok(());
    }
    let pointer = input.read_all()?;
    match foreign(&pointer).filter(|kind| kind.is_pointer()) {
        Some(kind) => Err(Error::ExternalForeign {
            path: input.path.clone(),
            kind,
        }),
        None => Ok(()),
    }
}
