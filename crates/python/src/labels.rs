//! Encrypted labels.

use std::path::PathBuf;

use onnxseal_inputs::{Images, ImagesMut, ValueType};
use onnxseal_labels::{Decoder, Table, UserKey, head};
use onnxseal_rewrite::Files;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::errors::{Result, usage};
use crate::keys::{IdentityArgs, read_identities};
use crate::view;

/// A key file: its bytes, or where it lies.
#[derive(FromPyObject)]
enum KeyFile {
    Bytes(PyBackedBytes),
    Path(PathBuf),
}

/// A table of labels, decrypted with a user's key. `onnxseal._labels` makes arrays of it.
#[pyclass(frozen, module = "onnxseal", name = "_RawLabelDecoder")]
pub struct RawLabelDecoder {
    table: Table,
    decoder: Decoder,
    user: String,
}

#[pymethods]
impl RawLabelDecoder {
    /// Decrypts the table of a model with a key file. With the path of a model that is not protected as a whole, the table
    /// must belong to its rows.
    #[new]
    #[pyo3(signature = (table, key, identity = None, path = None))]
    fn new(
        py: Python<'_>,
        table: &str,
        key: KeyFile,
        identity: Option<IdentityArgs>,
        path: Option<PathBuf>,
    ) -> Result<RawLabelDecoder> {
        py.detach(|| {
            let identities = read_identities(identity)?;
            let key = match key {
                KeyFile::Bytes(bytes) => UserKey::from_bytes(&bytes, identities.as_ref())?,
                KeyFile::Path(path) => UserKey::open(&path, identities.as_ref())?,
            };
            let table = Table::parse(table)?;
            let decoder = Decoder::new(&table, &key)?;
            if let Some(path) = path {
                let files = Files::open(&path.into()).map_err(onnxseal_labels::Error::from)?;
                files.with(|source| head::check_rows(source, &table))?;
            }
            Ok(RawLabelDecoder {
                user: key.name().to_owned(),
                table,
                decoder,
            })
        })
    }

    #[getter]
    fn user(&self) -> &str {
        &self.user
    }

    #[getter]
    fn answers(&self) -> &str {
        self.table.answers()
    }

    #[getter]
    fn logits(&self) -> &str {
        self.table.logits()
    }

    #[getter]
    fn outputs(&self) -> Vec<String> {
        self.table.outputs().to_vec()
    }

    #[getter]
    fn tail<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.table.tail())
    }

    /// The shape of logits of answers of `shape`.
    fn shape(&self, shape: Vec<usize>) -> Result<Vec<usize>> {
        Ok(self.decoder.shape(&shape)?)
    }

    /// Decodes the floats in the bytes of `answers`, which have this shape, into those of `logits`.
    fn decode(
        &self,
        shape: Vec<usize>,
        answers: PyBuffer<u8>,
        mut logits: PyBuffer<u8>,
    ) -> Result<()> {
        view::check_apart(&answers, &logits)?;
        let into = view::images_mut(&mut logits, ValueType::F32)?;
        let from = view::images(&answers, ValueType::F32)?;
        let (Images::F32(from), ImagesMut::F32(into)) = (from, into) else {
            return Err(usage("answers and logits are float32"));
        };
        Ok(self.decoder.decode_into(from, &shape, into)?)
    }
}
