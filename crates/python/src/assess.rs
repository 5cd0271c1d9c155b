//! What attackers get, and rankings of weights.

use std::path::{Path, PathBuf};

use onnxseal_assess::report::summary::Summary;
use onnxseal_assess::tune::Target;
use onnxseal_assess::{
    self as assessing, Answers, Method, Metric, NamedPolicy, Options, PublicModel, Subject, report,
};
use onnxseal_core::{
    self as core, Access, Edition, Error, Location, Policy, Preset, Readers, write_whole,
};
use onnxseal_data::{Array, DataOptions, DataSet, Layout, Resize, Values};
use onnxseal_engine::{Engine, Table};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::call;
use crate::calls::{as_dict, read_policy, read_policy_text, read_ranking};
use crate::errors::{Fault, Result, io, usage};
use crate::keys::{IdentityArgs, require_identities};
use crate::reads::{NamesFiles, reads};
use crate::source::Source;

/// What attackers get from a model, as `assess` measured it.
#[pyclass(frozen, module = "onnxseal")]
pub struct Assessment {
    found: assessing::Assessment,
    /// Whether all presets and policies hold that the caller named; if it named none, the default
    /// preset.
    #[pyo3(get)]
    holds: bool,
}

#[pymethods]
impl Assessment {
    /// The table and the sentences that the command line prints.
    fn table(&self) -> String {
        Summary::of(&self.found).to_string()
    }

    /// What `onnxseal assess --json` prints, as a dictionary.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        as_dict(py, &self.found)
    }

    /// Writes the report, as one HTML page.
    #[pyo3(signature = (path, *, replace = false))]
    fn save(&self, path: PathBuf, replace: bool) -> Result<()> {
        check_free(&path, replace)?;
        let page = report::html(&self.found)?;
        write_whole(&path, page.as_bytes(), replace, Readers::Usual).map_err(io("write", &path))
    }

    fn _repr_html_(&self) -> Result<String> {
        Ok(report::html(&self.found)?)
    }

    fn __str__(&self) -> String {
        self.table()
    }

    fn __repr__(&self) -> String {
        let rows = self.found.candidates.iter();
        let rows = rows.map(|row| format!("{}: {}", row.name, row.verdict));
        format!(
            "<onnxseal assessment: {}>",
            rows.collect::<Vec<_>>().join(", ")
        )
    }
}

/// Attacks a model, to see what an attacker gets from it once it is protected.
#[pyfunction]
#[pyo3(signature = (
    model, data = None, *, labels = None, identities = None, presets = None, policies = None, ranking = None,
    base = None, no_public_base = false, metric = None, attacker_samples = None, seed = 0, limit = None, output = None,
    scale = None, mean = None, std = None, layout = None, bgr = false, resize = None, crop = None,
    label_first = false, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn assess<'py>(
    py: Python<'py>,
    model: Source,
    data: Option<Bound<'py, PyAny>>,
    labels: Option<Bound<'py, PyAny>>,
    identities: Option<IdentityArgs>,
    presets: Option<OneOrMore<String>>,
    policies: Option<OneOrMore<PathBuf>>,
    ranking: Option<PathBuf>,
    base: Option<Source>,
    no_public_base: bool,
    metric: Option<Py<PyAny>>,
    attacker_samples: Option<Vec<usize>>,
    seed: u64,
    limit: Option<usize>,
    output: Option<String>,
    scale: Option<f64>,
    mean: Option<OneOrMore<f64>>,
    std: Option<OneOrMore<f64>>,
    layout: Option<String>,
    bgr: bool,
    resize: Option<Sides>,
    crop: Option<Sides>,
    label_first: bool,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Assessment> {
    if no_public_base && base.is_some() {
        return Err(usage(
            "a base is given, and no_public_base says that there is none",
        ));
    }
    let library = library(py)?;
    let mut how = DataOptions::default();
    how.layout = layout.as_deref().map(axes).transpose()?;
    how.bgr = bgr;
    how.scale = scale.unwrap_or(1.0);
    how.mean = mean.map_or_else(Vec::new, |OneOrMore(mean)| mean);
    how.std = std.map_or_else(Vec::new, |OneOrMore(std)| std);
    how.resize = resize.map(|sides| match sides {
        Sides::One(n) => Resize::Shorter(n),
        Sides::Two(width, height) => Resize::To(width, height),
    });
    how.crop = crop.map(|sides| match sides {
        Sides::One(n) => (n, n),
        Sides::Two(width, height) => (width, height),
    });
    (how.limit, how.seed, how.label_first) = (limit, seed, label_first);
    let is_scaled = scale.is_some() || !how.mean.is_empty() || !how.std.is_empty();
    let data = Data::new(data, labels)?;
    let model = model.location()?;
    let base = base.map(Source::location).transpose()?;
    let presets = presets.map_or_else(Vec::new, |OneOrMore(presets)| presets);
    let policies = policies.map_or_else(Vec::new, |OneOrMore(policies)| policies);
    let names_none = presets.is_empty() && policies.is_empty();
    let metric = metric.map(Callback);
    let found = call::run(py, progress, move |progress| {
        load(library)?;
        let candidates = candidates(&presets, &policies, ranking.as_deref())?;
        let subject = subject(model, identities, progress)?;
        let base = base.map(Subject::plain).transpose()?;
        let data = data.read(&how)?;
        let mut options = Options::default();
        options.candidates = candidates;
        if let Some(sizes) = attacker_samples {
            options.attacker_samples = sizes;
        }
        options.seed = seed;
        options.output = output;
        options.metric = metric.as_ref().map(|metric| metric as &dyn Metric);
        options.base = match &base {
            Some(base) => PublicModel::Known(base),
            None if no_public_base => PublicModel::None,
            None => PublicModel::Unknown,
        };
        (options.data, options.is_scaled) = (how, is_scaled);
        Ok::<_, Fault>(assessing::assess(
            &subject,
            data.as_ref(),
            &options,
            &Steps(progress),
        )?)
    })?;
    let holds = found.failures(names_none).next().is_none();
    Ok(Assessment { found, holds })
}

/// Scores weights by how much the model would miss them, and writes a ranking file. Returns the
/// file's `method`, its `unit_bytes` and whether it is `partial`.
#[pyfunction]
#[pyo3(signature = (
    model, path, *, method, data = None, labels = None, identities = None, unit = 256, masks = 256,
    share = 0.1, seed = 0, limit = None, output = None, scale = 1.0, replace = false, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn rank<'py>(
    py: Python<'py>,
    model: Source,
    path: PathBuf,
    method: String,
    data: Option<Bound<'py, PyAny>>,
    labels: Option<Bound<'py, PyAny>>,
    identities: Option<IdentityArgs>,
    unit: u64,
    masks: usize,
    share: f64,
    seed: u64,
    limit: Option<usize>,
    output: Option<String>,
    scale: f64,
    replace: bool,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>> {
    let method = match method.as_str() {
        "activation" => Method::Activation,
        "probabilistic" => Method::Probabilistic {
            share,
            n_masks: masks,
        },
        _ => {
            return Err(usage(format!(
                "method {method:?} is neither activation nor probabilistic"
            )));
        }
    };
    let library = library(py)?;
    let data = Data::new(data, labels)?;
    let model = model.location()?;
    reads(&[&model], &[&identities, &data]).check(&path)?;
    check_free(&path, replace)?;
    let row = call::run(py, progress, move |progress| {
        load(library)?;
        let mut how = DataOptions::default();
        (how.limit, how.seed, how.scale) = (limit, seed, scale);
        let subject = subject(model, identities, progress)?;
        let data = data.read(&how)?;
        let mut options = Options::default();
        (options.seed, options.output, options.data) = (seed, output, how);
        let steps = Steps(progress);
        let ranking = assessing::rank(&subject, method, unit, data.as_ref(), &options, &steps)?;
        let json = ranking.to_json();
        write_whole(&path, &json, replace, Readers::Usual).map_err(io("write", &path))?;
        let texts = [
            ranking.method().to_owned(),
            ranking.unit_bytes().to_string(),
        ];
        Ok::<_, Fault>((texts, ranking.is_partial()))
    })?;
    let ([method, unit_bytes], is_partial) = row;
    let found = PyDict::new(py);
    found.set_item("method", method)?;
    found.set_item("unit_bytes", unit_bytes.parse::<u64>().unwrap_or_default())?;
    found.set_item("partial", is_partial)?;
    Ok(found.into_any())
}

/// Finds the shares that bring tiers to the wanted accuracies, and writes a policy with them.
/// Returns what `onnxseal tiers tune --json` prints.
#[pyfunction]
#[pyo3(signature = (
    model, path, *, targets, data, labels = None, highest = "full", identities = None, policy = None, preset = None,
    ranking = None, metric = None, seed = 0, limit = None, output = None, scale = 1.0, replace = false, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn tune_tiers<'py>(
    py: Python<'py>,
    model: Source,
    path: PathBuf,
    targets: Bound<'py, PyDict>,
    data: Bound<'py, PyAny>,
    labels: Option<Bound<'py, PyAny>>,
    highest: &str,
    identities: Option<IdentityArgs>,
    policy: Option<PathBuf>,
    preset: Option<String>,
    ranking: Option<PathBuf>,
    metric: Option<Py<PyAny>>,
    seed: u64,
    limit: Option<usize>,
    output: Option<String>,
    scale: f64,
    replace: bool,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>> {
    let target = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<Target> {
        Ok(Target {
            name: name.extract()?,
            value: value.extract()?,
        })
    };
    // A dict keeps its order: the least tier first.
    let targets: Vec<Target> = targets.iter().map(target).collect::<PyResult<_>>()?;
    let library = library(py)?;
    let data = Data::new(Some(data), labels)?;
    let model = model.location()?;
    reads(&[&model], &[&identities, &data, &policy, &ranking]).check(&path)?;
    check_free(&path, replace)?;
    let metric = metric.map(Callback);
    let tuned = call::run(py, progress, move |progress| {
        let (mut base, text) = match (policy, preset) {
            (Some(_), Some(_)) => return Err(usage("give a policy or a preset, not both")),
            (Some(path), None) => read_policy_text(&path)?,
            (None, preset) => {
                let preset = preset.map_or(Ok(Preset::default()), |name| name.parse());
                let preset: Preset = preset.map_err(Error::Policy)?;
                (Policy::preset(preset), preset.policy_text())
            }
        };
        if let Some(path) = &ranking {
            base.set_ranking(read_ranking(path)?);
        }
        load(library)?;
        let mut how = DataOptions::default();
        (how.limit, how.seed, how.scale) = (limit, seed, scale);
        let subject = subject(model, identities, progress)?;
        let data = data.read(&how)?;
        let data = data.ok_or_else(|| usage("editions are measured on real samples"))?;
        let mut options = Options::default();
        (options.seed, options.output, options.data) = (seed, output, how);
        options.metric = metric.as_ref().map(|metric| metric as &dyn Metric);
        let steps = Steps(progress);
        let wanted = (targets.as_slice(), highest);
        let tuned = assessing::tune(&subject, &data, &base, wanted, &options, &steps)?;
        let text = tuned.policy_text(&text);
        write_whole(&path, text.as_bytes(), replace, Readers::Usual).map_err(io("write", &path))?;
        Ok::<_, Fault>(tuned)
    })?;
    Ok(as_dict(py, &tuned)?)
}

/// Refuses a path where a file is, before the work for that path begins.
fn check_free(path: &Path, replace: bool) -> Result<()> {
    if !replace && path.exists() {
        return Err(usage(format!(
            "{} exists already: choose another name, or give replace=True",
            path.display()
        )));
    }
    Ok(())
}

/// The library of the `onnxruntime` that Python imports, if there is one.
pub fn library(py: Python<'_>) -> PyResult<Option<PathBuf>> {
    let found = py.import("onnxseal._library")?.call_method0("find")?;
    found.extract()
}

/// Loads ONNX Runtime.
pub fn load(library: Option<PathBuf>) -> Result<()> {
    match library {
        Some(library) => Engine::load_from(library)?,
        None => Engine::load()?,
    };
    Ok(())
}

fn candidates(
    presets: &[String],
    policies: &[PathBuf],
    ranking: Option<&Path>,
) -> Result<Vec<NamedPolicy>> {
    let mut named = Vec::new();
    for name in presets {
        named.push(NamedPolicy::from(
            name.parse::<Preset>().map_err(Error::Policy)?,
        ));
    }
    for path in policies {
        named.push(NamedPolicy {
            name: path.display().to_string(),
            policy: read_policy(path)?,
        });
    }
    if let Some(path) = ranking {
        if named.is_empty() {
            named = Preset::ALL.map(NamedPolicy::from).to_vec();
        }
        let ranking = read_ranking(path)?;
        for named in &mut named {
            named.policy.set_ranking(ranking.clone());
        }
    }
    Ok(named)
}

fn subject(
    model: Location,
    identities: Option<IdentityArgs>,
    progress: &dyn core::Progress,
) -> Result<Subject> {
    if !core::is_protected(model.clone())? {
        return match identities {
            Some(_) => Err(usage("the model is not protected: leave out identities")),
            None => Ok(Subject::plain(model)?),
        };
    }
    let identities = require_identities(identities, progress)?;
    let access = Access {
        identities: &identities,
        signed_by: None,
        edition: Edition::Whole,
    };
    Ok(Subject::protected(model, access)?)
}

/// Samples as callers give them.
pub enum Data {
    None,
    Files(PathBuf, Option<PathBuf>),
    Arrays(Vec<Array>, Option<Vec<i64>>),
}

impl NamesFiles for Data {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        if let Data::Files(data, labels) = self {
            files.push(data.clone());
            labels.add_to(files);
        }
    }
}

impl Data {
    /// Takes a caller's arguments `data` and `labels`.
    pub fn new(data: Option<Bound<'_, PyAny>>, labels: Option<Bound<'_, PyAny>>) -> Result<Data> {
        let Some(data) = data else {
            return match labels {
                None => Ok(Data::None),
                Some(_) => Err(usage("labels are given, and no data")),
            };
        };
        let Ok(arrays) = data.cast::<PyDict>() else {
            let labels = labels.map(|labels| labels.extract()).transpose()?;
            let path = data.extract().map_err(|_| {
                PyTypeError::new_err("data are a path, or a dict of arrays by the names of inputs")
            })?;
            return Ok(Data::Files(path, labels));
        };
        let array = |(name, values): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<Array> {
            let (shape, values) = numbers(&values)?;
            Ok(Array {
                name: Some(name.cast::<PyString>()?.to_string()),
                dims: shape.get(1..).unwrap_or_default().to_vec(),
                values,
                layout: None,
            })
        };
        let arrays = arrays.iter().map(array).collect::<PyResult<_>>()?;
        let labels = labels.map(|labels| match numbers(&labels)? {
            (_, Values::I64(labels)) => Ok(labels),
            _ => Err(PyTypeError::new_err("labels are whole numbers")),
        });
        Ok(Data::Arrays(arrays, labels.transpose()?))
    }

    /// Reads the samples.
    pub fn read(self, how: &DataOptions) -> Result<Option<DataSet>> {
        Ok(match self {
            Data::None => None,
            Data::Files(path, labels) => Some(DataSet::load(&path, labels.as_deref(), how)?),
            Data::Arrays(arrays, labels) => Some(DataSet::from_arrays(
                "arrays".to_owned(),
                arrays,
                labels,
                how,
            )?),
        })
    }
}

/// Shape and numbers of a value that numpy can make an array of.
fn numbers(value: &Bound<'_, PyAny>) -> PyResult<(Vec<usize>, Values)> {
    let py = value.py();
    let array = py.import("numpy")?.call_method1("asarray", (value,))?;
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    let size: usize = array.getattr("dtype")?.getattr("itemsize")?.extract()?;
    let wanted = match (kind.as_str(), size) {
        ("f", 8) => "<f8",
        ("f", _) => "<f4",
        ("i" | "u" | "b", _) => "<i8",
        _ => return Err(PyTypeError::new_err("arrays have numbers")),
    };
    let shape = array.getattr("shape")?.extract()?;
    let bytes = array
        .call_method1("astype", (wanted,))?
        .call_method0("tobytes")?;
    let bytes = bytes.cast::<PyBytes>()?.as_bytes();
    let values = match wanted {
        "<f8" => Values::F64(
            bytes
                .as_chunks()
                .0
                .iter()
                .copied()
                .map(f64::from_le_bytes)
                .collect(),
        ),
        "<f4" => Values::F32(
            bytes
                .as_chunks()
                .0
                .iter()
                .copied()
                .map(f32::from_le_bytes)
                .collect(),
        ),
        _ => Values::I64(
            bytes
                .as_chunks()
                .0
                .iter()
                .copied()
                .map(i64::from_le_bytes)
                .collect(),
        ),
    };
    Ok((shape, values))
}

/// A metric in Python: a function of outputs, one row per sample, and of the samples' indices.
struct Callback(Py<PyAny>);

impl Metric for Callback {
    fn name(&self) -> &str {
        "metric"
    }

    fn measure(&self, answers: &Answers<'_>) -> std::result::Result<f64, String> {
        let measured = Python::attach(|py| -> PyResult<f64> {
            let outputs = array(py, answers.outputs)?;
            let rows: Vec<u8> = (answers.rows.iter())
                .flat_map(|row| (*row as u64).to_le_bytes())
                .collect();
            let rows = from_bytes(py, &rows, "<u8")?.call_method1("astype", ("<i8",))?;
            self.0.bind(py).call1((outputs, rows))?.extract()
        });
        measured.map_err(|error| error.to_string())
    }
}

fn array<'py>(py: Python<'py>, table: &Table) -> PyResult<Bound<'py, PyAny>> {
    let bytes: Vec<u8> = (table.values.iter())
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let shape = [&[table.n_rows()], &table.dims[..]].concat();
    from_bytes(py, &bytes, "<f4")?.call_method1("reshape", (shape,))
}

/// An array of one axis.
pub fn from_bytes<'py>(
    py: Python<'py>,
    bytes: &[u8],
    data_type: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let numpy = py.import("numpy")?;
    numpy.call_method1("frombuffer", (PyBytes::new(py, bytes), data_type))
}

/// Progress that counts steps in place of bytes.
struct Steps<'p>(&'p dyn core::Progress);

impl assessing::Progress for Steps<'_> {
    fn begin(&self, n_steps: u64) {
        self.0.begin(n_steps);
    }

    fn step(&self, _: &str) {
        self.0.advance(1);
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

fn axes(name: &str) -> Result<Layout> {
    match name {
        "nchw" => Ok(Layout::Nchw),
        "nhwc" => Ok(Layout::Nhwc),
        _ => Err(usage(format!("layout {name:?} is neither nchw nor nhwc"))),
    }
}

/// One value, or several.
pub struct OneOrMore<T>(Vec<T>);

impl<'a, 'py, T> FromPyObject<'a, 'py> for OneOrMore<T>
where
    T: for<'b> FromPyObject<'b, 'py, Error = PyErr>,
{
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<OneOrMore<T>> {
        if let Ok(one) = value.extract() {
            return Ok(OneOrMore(vec![one]));
        }
        let several = value.try_iter()?;
        let several = several.map(|value| value?.extract());
        several.collect::<PyResult<_>>().map(OneOrMore)
    }
}

/// The sides of an image: one number, or columns and rows.
#[derive(FromPyObject)]
pub enum Sides {
    /// One number for both sides, or for the shorter.
    One(u32),
    /// Columns and rows.
    Two(u32, u32),
}
