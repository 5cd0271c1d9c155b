//! What attackers get, and rankings of weights.

use std::path::PathBuf;

use onnxseal_assess::report::summary::Summary;
use onnxseal_assess::tune::Target;
use onnxseal_assess::{
    self as assessing, Answers, Method, Metric, NamedPolicy, Options, PublicModel, Subject, report,
};
use onnxseal_core::{self as core, Error, Location, Policy, Preset, Readers, write_whole};
use onnxseal_data::DataSet;
use onnxseal_engine::{Engine, Table};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::calls::as_dict;
use crate::data::{Data, from_bytes, preparation};
use crate::errors::{Result, io, usage};
use crate::keys::{IdentityArgs, require_identities};
use crate::keywords::{Keywords, Later};
use crate::policy::{policy_in, ranking_in};
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
    fn json<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        as_dict(py, &self.found)
    }

    /// Writes the report, as one HTML page.
    #[pyo3(signature = (path, *, replace = false))]
    fn save(&self, path: PathBuf, replace: bool) -> Result<()> {
        NewFile::at(path, replace)?.write(report::html(&self.found)?.as_bytes())
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

#[pyfunction(name = "_assess")]
pub fn assess(keywords: Keywords<'_>) -> Result<Assessment> {
    let base: Option<Source> = keywords.get("base")?;
    let no_public_base: bool = keywords.get("no_public_base")?;
    if no_public_base && base.is_some() {
        return Err(usage(
            "a base is given, and no_public_base says that there is none",
        ));
    }
    let base = base.map(Source::location).transpose()?;
    let measuring = measuring(&keywords)?;
    let candidates = Candidates::of(&keywords)?;
    let names_none = candidates.presets.is_empty() && candidates.policies.is_empty();
    let metric = keywords.get::<Option<Py<PyAny>>>("metric")?.map(Callback);
    let sizes: Option<Vec<usize>> = keywords.get("attacker_samples")?;
    let is_given = |name: &&str| !matches!(keywords.get(name), Ok(None::<Bound<'_, PyAny>>));
    let is_scaled = ["scale", "mean", "std"].iter().any(is_given);
    let found = keywords.run(move |progress| {
        let (subject, data, mut options) = measuring(progress)?;
        let base = base.map(Subject::plain).transpose()?;
        options.candidates = candidates.read()?;
        if let Some(sizes) = sizes {
            options.attacker_samples = sizes;
        }
        options.metric = metric.as_ref().map(|metric| metric as &dyn Metric);
        options.base = match &base {
            Some(base) => PublicModel::Known(base),
            None if no_public_base => PublicModel::None,
            None => PublicModel::Unknown,
        };
        options.is_scaled = is_scaled;
        let (data, steps) = (data.as_ref(), Steps(progress));
        Ok(assessing::assess(&subject, data, &options, &steps)?)
    })?;
    let holds = found.failures(names_none).next().is_none();
    Ok(Assessment { found, holds })
}

/// A model, samples, and how to measure it.
type Measured<'a> = (Subject, Option<DataSet>, Options<'a>);

/// Takes the arguments that all that runs a model has.
fn measuring<'a>(keywords: &Keywords<'_>) -> Result<Later<Measured<'a>>> {
    let library = library(keywords.py())?;
    let model = keywords.model()?;
    let identities: Option<IdentityArgs> = keywords.read("identities")?;
    let (data, how) = (Data::of(keywords)?, preparation(keywords)?);
    let output: Option<String> = keywords.get("output")?;
    Ok(Box::new(move |progress| {
        load(library)?;
        let subject = subject(model, identities, progress)?;
        let data = data.read(&how)?;
        let mut options = Options::default();
        (options.seed, options.output, options.data) = (how.seed, output, how);
        Ok((subject, data, options))
    }))
}

#[pyfunction(name = "_rank")]
pub fn rank<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyDict>> {
    let method: String = keywords.get("method")?;
    let method = match method.as_str() {
        "activation" => Method::Activation,
        "probabilistic" => Method::Probabilistic {
            share: keywords.get("share")?,
            n_masks: keywords.get("masks")?,
        },
        _ => {
            return Err(usage(format!(
                "method {method:?} is neither activation nor probabilistic"
            )));
        }
    };
    let unit: u64 = keywords.get("unit")?;
    let measuring = measuring(&keywords)?;
    let to = NewFile::of(&keywords)?;
    let ranking = keywords.run(move |progress| {
        let (subject, data, options) = measuring(progress)?;
        let (data, steps) = (data.as_ref(), Steps(progress));
        let ranking = assessing::rank(&subject, method, unit, data, &options, &steps)?;
        to.write(&ranking.to_json())?;
        Ok(ranking)
    })?;
    let found = PyDict::new(keywords.py());
    found.set_item("method", ranking.method())?;
    found.set_item("unit_bytes", ranking.unit_bytes())?;
    found.set_item("partial", ranking.is_partial())?;
    Ok(found)
}

#[pyfunction(name = "_tune_tiers")]
pub fn tune_tiers<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let target = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<Target> {
        Ok(Target {
            name: name.extract()?,
            value: value.extract()?,
        })
    };
    // A dict keeps its order: the least tier first.
    let targets: Bound<'_, PyDict> = keywords.get("targets")?;
    let targets: Vec<Target> = targets.iter().map(target).collect::<PyResult<_>>()?;
    let highest: String = keywords.get("highest")?;
    let policy: Option<PathBuf> = keywords.read("policy")?;
    let preset: Option<String> = keywords.get("preset")?;
    let ranking: Option<PathBuf> = keywords.read("ranking")?;
    let metric = keywords.get::<Option<Py<PyAny>>>("metric")?.map(Callback);
    let measuring = measuring(&keywords)?;
    let to = NewFile::of(&keywords)?;
    let tuned = keywords.run(move |progress| {
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
        let (subject, data, mut options) = measuring(progress)?;
        let data = data.ok_or_else(|| usage("editions are measured on real samples"))?;
        options.metric = metric.as_ref().map(|metric| metric as &dyn Metric);
        let (wanted, steps) = ((targets.as_slice(), &*highest), Steps(progress));
        let tuned = assessing::tune(&subject, &data, &base, wanted, &options, &steps)?;
        to.write(tuned.policy_text(&text).as_bytes())?;
        Ok(tuned)
    })?;
    as_dict(keywords.py(), &tuned)
}

/// A file that is written when the work for it is done.
struct NewFile {
    path: PathBuf,
    replace: bool,
}

impl NewFile {
    /// The arguments `path` and `replace`. Refuses a path of what is read, or where a file is.
    fn of(keywords: &Keywords<'_>) -> Result<NewFile> {
        let path: PathBuf = keywords.get("path")?;
        keywords.check_output(&path)?;
        NewFile::at(path, keywords.get("replace")?)
    }

    fn at(path: PathBuf, replace: bool) -> Result<NewFile> {
        if !replace && path.exists() {
            return Err(usage(format!(
                "{} exists already: choose another name, or give replace=True",
                path.display()
            )));
        }
        Ok(NewFile { path, replace })
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let NewFile { path, replace } = self;
        write_whole(path, bytes, *replace, Readers::Usual).map_err(io("write", path))
    }
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
    fn of(keywords: &Keywords<'_>) -> Result<Candidates> {
        Ok(Candidates {
            presets: keywords.several("presets")?,
            policies: keywords.several("policies")?,
            ranking: keywords.get("ranking")?,
        })
    }

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
    let identities = require_identities(identities, progress)?;
    Ok(Subject::protected(model, &identities)?)
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
