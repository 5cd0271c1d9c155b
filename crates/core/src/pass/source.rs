//! A model file, open and mapped, and the structure in it.

use onnxseal_onnx::model::Payload;
use onnxseal_onnx::{At, Limits, Model, external, locate};
use onnxseal_store::{Input, Location, Map};

use crate::error::{Error, Result, external as external_error, model as model_error};

/// The most bytes of an object's structure that are fetched and kept in memory.
const MAX_STRUCTURE_BYTES: u64 = 1 << 30;

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
        let map = input.map_with(|bytes| skim(&input, bytes))?;
        Ok(Source { input, map })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Gives the memory of the map back to the system, until it is read again.
    pub(crate) fn give_back(&self) {
        self.input.give_back(&self.map);
    }

    /// Locates the model in the first `len` bytes of the file.
    pub(crate) fn locate(&self, len: u64) -> Result<Model<'_>> {
        // A manifest may claim more bytes than the file has.
        let len = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(self.map.len());
        locate(self.map.get(..len).unwrap_or_default(), &Limits::default())
            .map_err(|source| self.malformed(source))
    }

    /// Checks that all programs read the values of `model`, located in this source, in the same
    /// way.
    pub(crate) fn check_unambiguous(&self, model: &Model<'_>) -> Result<()> {
        (model.check_unambiguous()).map_err(|source| self.malformed(source))
    }

    /// Opens the external files of `model`, located in this source, and checks that its tensors lie
    /// within them.
    pub(crate) fn open_external(&self, model: &Model<'_>) -> Result<Vec<Input>> {
        let inputs = self.input.open_all_beside(&model.external_files);
        let inputs = inputs.map_err(external_error(&self.input.path))?;
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
        model_error(&self.input.path, self.bytes(), source)
    }
}

/// Reads the structure of a model, and little more, into `bytes`, memory of the file's length.
fn skim(input: &Input, bytes: &mut [u8]) -> Result<()> {
    let mut n_bytes = 0;
    onnxseal_onnx::skim(bytes, &Limits::default(), |part, offset| {
        n_bytes += part.len() as u64;
        if n_bytes > MAX_STRUCTURE_BYTES {
            return Err(too_much_structure(input, offset));
        }
        Ok(input.read_exact_at(part, offset)?)
    })
}

fn too_much_structure(input: &Input, offset: u64) -> Error {
    let at = At {
        offset,
        ..At::default()
    };
    Error::Model {
        path: input.path.clone(),
        source: onnxseal_onnx::Error::LimitExceeded {
            at: Box::new(at),
            what: "bytes that are no elements",
            maximum: MAX_STRUCTURE_BYTES,
        },
    }
}
