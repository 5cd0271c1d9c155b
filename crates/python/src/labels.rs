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
use crate::calls::{as_dict, output_options};
use crate::data::{Data, from_bytes, plain_options};
use crate::errors::{Fault, Result, io, usage};
use crate::keys::{IdentityArgs, read_identities};
use crate::reads::reads;
use crate::source::{Out, OutputArg, Source};
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
            Ok::<_, Fault>(RawLabelDecoder {
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

/// Encrypts the labels of a classifier: it answers with shares, and label keys turn these into
/// classes.
///
/// `authority` is the path of the authority's file, in which the model is noted. `data` has
/// samples, for `traces` and for the comparison: a path, or arrays by the names of inputs.
/// `targets` is the file that the model was trained with, if it was trained with one. ONNX Runtime
/// runs the original and the result to compare them, unless `check=False`. Returns what became of
/// the labels: `node`, `rows`, `classes`, `traces`, `firing` (the share of held-out samples that
/// fire a trace) and `difference` (of decoded answers from the original's, as a share of the
/// largest; `None` if they were not compared).
///
/// Whoever has the result in plain gets the classifier up to the names of its classes: protect it,
/// too.
#[pyfunction]
#[pyo3(signature = (
    model, out, *, authority, identity = None, data = None, codewords = 8, traces = 0, targets = None,
    output = None, seed = 0, limit = None, scale = 1.0, check = true, replace = false, sync = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn protect_labels<'py>(
    py: Python<'py>,
    model: Source,
    out: OutputArg,
    authority: PathBuf,
    identity: Option<IdentityArgs>,
    data: Option<Bound<'py, PyAny>>,
    codewords: u32,
    traces: usize,
    targets: Option<PathBuf>,
    output: Option<String>,
    seed: u64,
    limit: Option<usize>,
    scale: f64,
    check: bool,
    replace: bool,
    sync: Option<bool>,
) -> Result<Bound<'py, PyAny>> {
    let runs = check || traces > 0;
    let library = if runs { library(py)? } else { None };
    let model = model.location()?;
    let data = Data::new(data, None)?;
    let reads = reads(&[&model], &[&identity, &data, &authority, &targets]);
    let to = Out::open(out, &reads)?;
    let (out, name) = (to.location(), to.name());
    let protected = call::run(py, None, move |progress| {
        let out_options = output_options(replace, sync);
        out_options.check_free(&out)?;
        let how = plain_options(limit, seed, scale);
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
        Ok::<_, Fault>((encrypted.summary(), difference))
    });
    let (summary, difference) = to.finish(py, protected)?;
    let found = PyDict::new(py);
    found.set_item("node", summary.node)?;
    found.set_item("rows", summary.rows)?;
    found.set_item("classes", summary.classes)?;
    found.set_item("traces", summary.traces)?;
    found.set_item("firing", summary.firing)?;
    found.set_item("difference", difference)?;
    Ok(found.into_any())
}

/// Finds out whose key a service uses, by its answers to the inputs of traces.
///
/// `ask` is a function. It gets a dict of arrays by the names of the model's inputs, one trace per
/// row, and returns the class of each row, or a row of numbers for each. The result has `accused`,
/// `suspects`, `threshold`, `traces` and `probability_of_an_innocent`, as
/// `onnxseal labels trace --json` prints them.
#[pyfunction]
#[pyo3(signature = (model, ask, *, authority, identity = None))]
pub fn trace_labels<'py>(
    py: Python<'py>,
    model: Source,
    ask: &Bound<'py, PyAny>,
    authority: PathBuf,
    identity: Option<IdentityArgs>,
) -> Result<Bound<'py, PyAny>> {
    let authority = call::run(py, None, move |progress| {
        let identities = read_identities(identity, progress)?;
        read_authority(&authority, identities.as_ref())
    })?;
    let files = Files::open(&model.location()?)?;
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
    Ok(as_dict(py, &authority.trace(noted, &answers)?.to_json())?)
}

fn read_authority(path: &Path, identities: Option<&Identities>) -> Result<Authority> {
    let file = File::open(path).map_err(io("read", path))?;
    Ok(Authority::read(file, path, identities)?)
}
