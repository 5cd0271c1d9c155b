//! A model file, mapped, and the model's structure in it.

#[cfg(feature = "protect")]
use onnxseal_onnx::{Limits, Model, external, locate, model::Payload};

use crate::error::Result;
#[cfg(feature = "protect")]
use crate::error::{Error, model as model_error};
use crate::input::Input;
use crate::location::Location;
use crate::map::Map;

/// A model file, open and mapped.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) input: Input,
    map: Map,
}

impl Source {
    pub(crate) fn open(location: &Location) -> Result<Source> {
        Source::of(Input::open(location)?)
    }

    pub(crate) fn of(input: Input) -> Result<Source> {
        let map = input.map()?;
        Ok(Source { input, map })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Locates what is in the first `len` bytes of the file.
    #[cfg(feature = "protect")]
    pub(crate) fn locate(&self, len: u64) -> Result<Model<'_>> {
        let len = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(self.map.len());
        locate(self.map.get(..len).unwrap_or_default(), &Limits::default())
            .map_err(|source| self.malformed(source))
    }

    /// Checks that it is clear which elements the values of `model`, located in this source, have.
    #[cfg(feature = "protect")]
    pub(crate) fn check_unambiguous(&self, model: &Model<'_>) -> Result<()> {
        (model.check_unambiguous()).map_err(|source| self.malformed(source))
    }

    /// Opens the external files of `model`, located in this source, and checks that its tensors lie
    /// within them.
    #[cfg(feature = "protect")]
    pub(crate) fn open_external(&self, model: &Model<'_>) -> Result<Vec<Input>> {
        let inputs = self.open_locations(model)?;
        for tensor in &model.tensors {
            if let Payload::Dense { file, .. } = tensor.payload
                && let Some(index) = (file.0 as usize).checked_sub(1)
                && let Some(input) = inputs.get(index)
            {
                external::check_extent(model, tensor, input.len).map_err(|e| self.malformed(e))?;
            }
        }
        Ok(inputs)
    }

    #[cfg(feature = "protect")]
    fn open_locations(&self, model: &Model<'_>) -> Result<Vec<Input>> {
        if self.input.file().is_none() {
            let paths = model.external_files.iter();
            return paths.map(|path| self.input.open_beside(path)).collect();
        }
        let files = external::open_all(&self.input.path, model).map_err(|e| self.malformed(e))?;
        let inputs = files.into_iter().map(|(path, file)| Input::of(&path, file));
        inputs.collect()
    }

    #[cfg(feature = "protect")]
    fn malformed(&self, source: onnxseal_onnx::Error) -> Error {
        model_error(&self.input.path, self.bytes(), source)
    }
}
