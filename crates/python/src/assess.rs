//! What attackers get, and rankings of weights.

use std::path::{Path, PathBuf};

use onnxseal_assess::report::summary::Summary;
use onnxseal_assess::tune::Target;
use onnxseal_assess::{
    self as assessing, Answers, Method, Metric, NamedPolicy, Options, PublicModel, Subject, report,
};
use onnxseal_core::{self as core, Error, Location, Policy, Preset, Readers, write_whole};
use onnxseal_engine::{Engine, Table};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call;
use crate::calls::{as_dict, policy_in, ranking_in};
use crate::data::{Data, OneOrMore, Preparation, Sides, from_bytes, plain_options};
use crate::errors::{Fault, Result, io, usage};
use crate::keys::{IdentityArgs, OpeningArgs};
use crate::reads::reads;
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
    let how = Preparation {
        scale,
        mean,
        std,
        layout,
        bgr,
        resize,
        crop,
        limit,
        seed,
        label_first,
    };
    let is_scaled = how.is_scaled();
    let how = how.options()?;
    let data = Data::new(data, labels)?;
    let model = model.location()?;
    let base = base.map(Source::location).transpose()?;
    let candidates = Candidates {
        presets: presets.map_or_else(Vec::new, |OneOrMore(presets)| presets),
        policies: policies.map_or_else(Vec::new, |OneOrMore(policies)| policies),
        ranking,
    };
    let names_none = candidates.presets.is_empty() && candidates.policies.is_empty();
    let metric = metric.map(Callback);
    let found = call::run(py, progress, move |progress| {
        load(library)?;
        let subject = subject(model, identities, progress)?;
        let base = base.map(Subject::plain).transpose()?;
        let data = data.read(&how)?;
        let mut options = Options::default();
        options.candidates = candidates.read()?;
        if let Some(sizes) = attacker_samples {
            options.attacker_samples = sizes;
        }
        (options.seed, options.output) = (seed, output);
        options.metric = metric.as_ref().map(|metric| metric as &dyn Metric);
        options.base = match &base {
            Some(base) => PublicModel::Known(base),
            None if no_public_base => PublicModel::None,
            None => PublicModel::Unknown,
        };
        (options.data, options.is_scaled) = (how, is_scaled);
        let (data, steps) = (data.as_ref(), Steps(progress));
        Ok::<_, Fault>(assessing::assess(&subject, data, &options, &steps)?)
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
        let how = plain_options(limit, seed, scale);
        let subject = subject(model, identities, progress)?;
        let data = data.read(&how)?;
        let mut options = Options::default();
        (options.seed, options.output, options.data) = (seed, output, how);
        let steps = Steps(progress);
        let ranking = assessing::rank(&subject, method, unit, data.as_ref(), &options, &steps)?;
        let json = ranking.to_json();
        write_whole(&path, &json, replace, Readers::Usual).map_err(io("write", &path))?;
        let found = (ranking.method().to_owned(), ranking.unit_bytes());
        Ok::<_, Fault>((found, ranking.is_partial()))
    })?;
    let ((method, unit_bytes), is_partial) = row;
    let found = PyDict::new(py);
    found.set_item("method", method)?;
    found.set_item("unit_bytes", unit_bytes)?;
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
            (Some(path), None) => policy_in(&path)?,
            (None, preset) => {
                let preset = preset.map_or(Ok(Preset::default()), |name| name.parse());
                let preset: Preset = preset.map_err(Error::Policy)?;
                (Policy::preset(preset), preset.policy_text())
            }
        };
        if let Some(path) = &ranking {
            base.set_ranking(ranking_in(path)?);
        }
        load(library)?;
        let how = plain_options(limit, seed, scale);
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

/// The presets and policies that a caller names; with a ranking and no names, all presets with that
/// ranking.
struct Candidates {
    presets: Vec<String>,
    policies: Vec<PathBuf>,
    ranking: Option<PathBuf>,
}

impl Candidates {
    fn read(self) -> Result<Vec<NamedPolicy>> {
        let mut named = Vec::new();
        for name in &self.presets {
            let preset: Preset = name.parse().map_err(Error::Policy)?;
            named.push(NamedPolicy::from(preset));
        }
        for path in &self.policies {
            named.push(NamedPolicy {
                name: path.display().to_string(),
                policy: policy_in(path)?.0,
            });
        }
        if let Some(path) = &self.ranking {
            if named.is_empty() {
                named = Preset::ALL.map(NamedPolicy::from).to_vec();
            }
            let ranking = ranking_in(path)?;
            for named in &mut named {
                named.policy.set_ranking(ranking.clone());
            }
        }
        Ok(named)
    }
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
    let opening = OpeningArgs::new(identities, None, None);
    Ok(Subject::protected(model, opening.read(progress)?.access())?)
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
