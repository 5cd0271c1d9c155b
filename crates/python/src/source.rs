//! Where models lie, as callers name them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onnxseal_core::{Bytes, InMemory, Location, Permitted, Readers};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::errors::{Result, usage};

/// The name in messages for a model that has none.
pub const NAME: &str = "the model";

/// A model: a path, the URL of a file or an object, bytes, a file that is open for reading, an
/// `onnx.ModelProto`, or a `torch.onnx.ONNXProgram`.
pub enum Source {
    Named(PathBuf),
    Bytes(PyBackedBytes),
}

/// External data files of a model in memory, by their paths relative to its folder.
pub type External<'py> = BTreeMap<String, Bound<'py, PyAny>>;

impl Source {
    /// The location of the model.
    pub fn location(self) -> Result<Location> {
        self.location_with(None)
    }

    /// The location of a model in memory that has `external` files.
    pub fn location_with(self, external: Option<External<'_>>) -> Result<Location> {
        match (self, external) {
            (Source::Named(path), None) => Ok(Location::parse(path)?),
            (Source::Named(_), Some(_)) => Err(usage(
                "external files are only given for a model in memory: those of a path are found through it",
            )),
            (Source::Bytes(bytes), external) => {
                let mut model = InMemory::new(NAME, Bytes::from_owner(bytes));
                // They have no permissions to take over: what is made of them is a file like others.
                model.permitted = Permitted::To(Readers::Usual);
                for (path, bytes) in external.unwrap_or_default() {
                    let bytes = bytes_of(&bytes)?.ok_or_else(|| {
                        PyTypeError::new_err(format!("external file {path:?} is no bytes"))
                    })?;
                    model.external.insert(path, Bytes::from_owner(bytes));
                }
                Ok(model.into())
            }
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Source {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Source> {
        if let Some(bytes) = bytes_of(&value)? {
            return Ok(Source::Bytes(bytes));
        }
        if let Ok(path) = value.extract() {
            return Ok(Source::Named(path));
        }
        if value.hasattr("read")? {
            let bytes = value.call_method0("read")?;
            let bytes = bytes_of(&bytes)?;
            let bytes =
                bytes.ok_or_else(|| PyTypeError::new_err("the file is not open as binary"))?;
            return Ok(Source::Bytes(bytes));
        }
        // Neither torch nor onnx is imported: who has a model of theirs has done so.
        let program = value.getattr_opt("model_proto")?;
        let proto = program.unwrap_or_else(|| value.to_owned());
        let Some(serialize) = proto.getattr_opt("SerializeToString")? else {
            let name = value.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "a model is a path, a URL, bytes, a file, an onnx.ModelProto or a torch.onnx.ONNXProgram, not {name}"
            )));
        };
        let bytes = serialize.call0().map_err(|error| -> PyErr {
            usage(format!(
                "the model cannot be serialised: {error}; save it to a file, with external data if it is above 2 GiB, and give its path"
            ))
            .into()
        })?;
        let bytes = bytes.cast_into::<PyBytes>()?;
        Ok(Source::Bytes(bytes.into()))
    }
}

/// The bytes of a bytes-like value, or `None`. Copies what Python code may change meanwhile.
fn bytes_of(value: &Bound<'_, PyAny>) -> PyResult<Option<PyBackedBytes>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(bytes.clone().into()));
    }
    if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
        let bytes = value.py().get_type::<PyBytes>().call1((value,))?;
        return Ok(Some(bytes.cast_into::<PyBytes>()?.into()));
    }
    Ok(None)
}
