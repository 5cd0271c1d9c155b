//! A model that is to be protected or looked at: its files, and its structure as a map of them.

use std::path::Path;

use onnxseal_onnx::model::Payload;
use onnxseal_onnx::{Limits, Model, external, locate};

use crate::error::{Error, Result};
use crate::input::Input;
use crate::map::Map;

/// A model file, mapped.
pub(crate) struct Source {
    pub(crate) input: Input,
    map: Map,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Source> {
        let input = Input::open(path)?;
        let map = input.map()?;
        Ok(Source { input, map })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Locates what is in the first `len` bytes of the file.
    pub(crate) fn locate(&self, len: u64) -> Result<Model<'_>> {
        let len = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(self.map.len());
        locate(self.map.get(..len).unwrap_or_default(), &Limits::default())
            .map_err(|source| self.malformed(source))
    }

    /// Opens the external files of `model`, located in this source, and checks that its tensors lie
    /// within them.
    pub(crate) fn open_external(&self, model: &Model<'_>) -> Result<Vec<Input>> {
        let paths =
            external::resolve_all(&self.input.path, model).map_err(|e| self.malformed(e))?;
        let inputs: Vec<Input> = paths
            .iter()
            .map(|path| Input::open(path))
            .collect::<Result<_>>()?;
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

    fn malformed(&self, source: onnxseal_onnx::Error) -> Error {
        Error::Model {
            path: self.input.path.clone(),
            source,
        }
    }
}
