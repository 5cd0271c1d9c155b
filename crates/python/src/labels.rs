//! Encrypted labels.

use std::fs::File;
use std::path::{Path, PathBuf};

use onnxseal_core::{Identities, Location, Replaced};
use onnxseal_inputs::{Images, ImagesMut, ValueType};
use onnxseal_labels::decoding::Decoding;
use onnxseal_labels::encrypt::{EncryptOptions, encrypt};
use onnxseal_labels::{Authority, Decoder, Table, UserKey, head};
use onnxseal_rewrite::Files;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};

use crate::assess::{library, load};
use crate::call;
use crate::calls::as_dict;
use crate::data::{Data, from_bytes, preparation};
use crate::errors::{Result, io, usage};
use crate::keys::{IdentityArgs, read_identities};
use crate::keywords::Keywords;
use crate::output::{Out, output_options};
use crate::view;

/// A key file: its bytes, or where it lies.
#[derive(FromPyObject)]
enum KeyFile {
    Bytes(PyBackedBytes),
    Path(PathBuf),
}

/// A table of labels: its text, or the model that has it.
enum TableOf {
    Text(String),
    Model(PathBuf),
}

impl TableOf {
    fn read(self) -> Result<Table> {
        match self {
            TableOf::Text(text) => Ok(Table::parse(&text)?),
            TableOf::Model(path) => {
                let model = Location::parse(path)?;
                let files = Files::open(&model)?;
                Ok(files.with(head::table_of)?)
            }
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for TableOf {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<TableOf> {
        match value.extract::<String>() {
            // Base64 has neither dots nor colons, and a table is longer than a name may be.
            Ok(text) if text.len() > 255 && !text.contains(['.', ':']) => Ok(TableOf::Text(text)),
            _ => value.extract().map(TableOf::Model),
        }
    }
}

/// A table of labels, decrypted with a user's key. `onnxseal._labels` wraps it for arrays.
#[pyclass(frozen, module = "onnxseal", name = "_RawLabelDecoder")]
pub struct RawLabelDecoder {
    decoder: Decoder,
    tail: Vec<u8>,
    #[pyo3(get)]
    user: String,
    #[pyo3(get)]
    answers: String,
    #[pyo3(get)]
    logits: String,
    #[pyo3(get)]
    outputs: Vec<String>,
}

#[pymethods]
impl RawLabelDecoder {
    /// Decrypts the table of a model with a key file. `path` is given for a model that is not
    /// protected as a whole: the table must then belong to the rows in this file.
    #[new]
    #[pyo3(signature = (table, key, identity = None, path = None))]
    fn new(
        py: Python<'_>,
        table: TableOf,
        key: KeyFile,
        identity: Option<IdentityArgs>,
        path: Option<PathBuf>,
    ) -> Result<RawLabelDecoder> {
        call::run(py, None, |progress| {
            let table = table.read()?;
            let identities = read_identities(identity, progress)?;
            let key = match key {
                KeyFile::Bytes(bytes) => UserKey::from_bytes(&bytes, identities.as_ref())?,
                KeyFile::Path(path) => UserKey::open(&path, identities.as_ref())?,
            };
            let decoder = Decoder::new(&table, &key)?;
            if let Some(path) = path {
                let files = Files::open(&path.into())?;
                files.with(|source| head::check_rows(source, &table))?;
            }
            Ok(RawLabelDecoder {
                decoder,
                tail: table.tail().to_vec(),
                user: key.name().to_owned(),
                answers: table.answers().to_owned(),
                logits: table.logits().to_owned(),
                outputs: table.outputs().to_vec(),
            })
        })
    }

    #[getter]
    fn tail<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.tail)
    }

    /// The shape of the logits of answers that have this shape.
    fn shape(&self, shape: Vec<usize>) -> Result<Vec<usize>> {
        Ok(self.decoder.shape(&shape)?)
    }

    /// Decodes answers of this shape, the floats in the bytes of `answers`, into the bytes of
    /// `logits`.
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

#[pyfunction(name = "_protect_labels")]
pub fn protect_labels<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyDict>> {
    let (check, traces): (bool, usize) = (keywords.get("check")?, keywords.get("traces")?);
    let runs = check || traces > 0;
    let library = if runs { library(keywords.py())? } else { None };
    let model = keywords.model()?;
    let identity: Option<IdentityArgs> = keywords.read("identity")?;
    let (data, how) = (Data::of(&keywords)?, preparation(&keywords)?);
    let authority: PathBuf = keywords.read("authority")?;
    let targets: Option<PathBuf> = keywords.read("targets")?;
    let output: Option<String> = keywords.get("output")?;
    let codewords: u32 = keywords.get("codewords")?;
    let out_options = output_options(&keywords)?;
    let to = Out::open(keywords.get("out")?, &keywords)?;
    let (out, name) = (to.location(), to.name());
    let protected = keywords.run(move |progress| {
        out_options.check_free(&out)?;
        let identities = read_identities(identity, progress)?;
        let mut noted = read_authority(&authority, identities.as_ref())?;
        let data = data.read(&how)?;
        let decoding = targets.as_deref().map(Decoding::read).transpose()?;
        let mut options = EncryptOptions::default();
        options.codewords = codewords;
        options.decoding = decoding.as_ref();
        options.output_name = output.as_deref();
        options.traces = traces;
        options.data = data.as_ref().map(|data| (data, &how));
        if runs {
            load(library)?;
        }
        let encrypted = encrypt(&model, &noted, options)?;
        let is_compared = check && encrypted.needs_check();
        let difference = is_compared.then(|| encrypted.check(&noted)).transpose()?;
        // The note first: a model whose traces nobody knows could not be traced.
        noted.add_model(encrypted.protected(name));
        let text = noted.to_file()?;
        let written = Replaced::write(&authority, text.as_bytes());
        let written = written.map_err(io("write", &authority))?;
        encrypted.write(&out, out_options)?;
        written.keep();
        Ok((encrypted.summary(), difference))
    });
    let (summary, difference) = to.finish(keywords.py(), protected)?;
    let found = PyDict::new(keywords.py());
    found.set_item("node", summary.node)?;
    found.set_item("rows", summary.rows)?;
    found.set_item("classes", summary.classes)?;
    found.set_item("traces", summary.traces)?;
    found.set_item("firing", summary.firing)?;
    found.set_item("difference", difference)?;
    Ok(found)
}

#[pyfunction(name = "_trace_labels")]
pub fn trace_labels<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let py = keywords.py();
    let identity: Option<IdentityArgs> = keywords.get("identity")?;
    let authority: PathBuf = keywords.get("authority")?;
    let ask: Bound<'py, PyAny> = keywords.get("ask")?;
    let model = keywords.model()?;
    let authority = keywords.run(move |progress| {
        let identities = read_identities(identity, progress)?;
        read_authority(&authority, identities.as_ref())
    })?;
    let files = Files::open(&model)?;
    let table = files.with(head::table_of)?;
    let noted = authority.model_of(table.digest())?;
    if noted.traces.is_empty() {
        return Err(usage("the model has no traces: protect it with traces"));
    }
    let inputs = PyDict::new(py);
    for stored in noted.trace_inputs()? {
        let array = from_bytes(py, &stored.bytes, stored.descr)?;
        inputs.set_item(stored.name, array.call_method1("reshape", (stored.dims,))?)?;
    }
    let answers = py
        .import("numpy")?
        .call_method1("asarray", (ask.call1((inputs,))?,))?;
    let answers: Vec<i64> = match answers.getattr("ndim")?.extract()? {
        1 => answers.extract()?,
        2 => answers.call_method1("argmax", (1,))?.extract()?,
        _ => {
            return Err(usage(
                "answers are a class for each trace, or a row of numbers",
            ));
        }
    };
    if answers.len() != noted.traces.len() {
        return Err(usage(format!(
            "there are {} answers for {} traces",
            answers.len(),
            noted.traces.len()
        )));
    }
    let class = |class: &i64| {
        let class = u32::try_from(*class).ok()?;
        (class < noted.classes).then_some(class)
    };
    let answers: Vec<Option<u32>> = answers.iter().map(class).collect();
    as_dict(py, &authority.trace(noted, &answers)?.to_json())
}

fn read_authority(path: &Path, identities: Option<&Identities>) -> Result<Authority> {
    let file = File::open(path).map_err(io("read", path))?;
    Ok(Authority::read(file, path, identities)?)
}
