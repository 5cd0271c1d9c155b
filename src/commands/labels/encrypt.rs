//! A model whose labels are encrypted, before it is written.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_assess::candidates::{picked, unlike};
use onnxseal_core::{InMemory, Location, OutputOptions};
use onnxseal_data::DataSet;
use onnxseal_engine::{Files as Memory, Samples, Table, difference};
use onnxseal_labels::head::Head;
use onnxseal_labels::traces::{Features, Trace, Traces, make};
use onnxseal_labels::{
    Authority, DEFAULT_CODEWORDS, Decoder, Plan, Protected, TraceInput, attach, protect,
};
use onnxseal_rewrite::{Edit, Files, Written};

use super::authority;
use super::layer_run::{LayerRun, Ran};
use super::targets;
use crate::cli::assess::DataArgs;
use crate::commands::assess::can_run;
use crate::exit::Usage;
use crate::keys::{IdentityArgs, label_authority};
use crate::text::{count, note, one_line};

/// Inputs that are tried for each trace, and at least so many.
const CANDIDATES_FOR_EACH: usize = 16;
const MIN_CANDIDATES: usize = 384;

/// The share of samples that may fire a trace.
const MAX_FIRING: f64 = 0.002;

/// Samples that original and result are compared on: random ones, and at most so many of a data set.
const COMPARED: usize = 8;
const MAX_COMPARED: usize = 256;

/// By how much of the largest logit decoded ones may differ: with layers of 32 bits, and of 16.
const LIMITS: [f64; 2] = [1e-4, 2e-2];

/// How labels are to be encrypted.
pub struct Wanted<'a> {
    /// Shares of each class.
    pub codewords: u32,
    /// The file that the model was trained with, if it was.
    pub targets: Option<&'a Path>,
    /// The output that has the classes, if the model has several.
    pub output_name: Option<&'a str>,
    /// How many traces are added.
    pub traces: usize,
    /// Samples for traces, and to compare on.
    pub data: Option<&'a DataArgs>,
    /// Whether original and result are compared on ONNX Runtime.
    pub check: bool,
}

/// A model, and the edits that encrypt its labels.
pub struct Encrypted {
    files: Files,
    head: Head,
    plan: Plan,
    edits: Vec<Edit>,
    made: Option<Made>,
}

/// Traces, the inputs that they answer to, and how many samples they come of.
struct Made {
    traces: Traces,
    inputs: Vec<TraceInput>,
    n_samples: usize,
}

/// Encrypts the labels of a model. Nothing is written.
pub fn encrypt(
    model: &Location,
    authority: &Authority,
    wanted: &Wanted<'_>,
    quiet: bool,
) -> Result<Encrypted> {
    let files = Files::open(model)?;
    let head = files.with(|source| Head::find(source, wanted.output_name))?;
    let read = wanted.data.map(crate::commands::assess::data).transpose()?;
    let data = read.as_ref().and_then(Option::as_ref).zip(wanted.data);
    let made = match (wanted.traces, data) {
        (0, _) => None,
        (_, None) => return Err(Usage("--traces needs --data".into()).into()),
        (n, Some(data)) => Some(trace(model, &files, &head, data, n)?),
    };
    let traces: &[Trace] = made.as_ref().map_or(&[], |made| &made.traces.all);
    let plan = match wanted.targets {
        None => protect(&head, authority, wanted.codewords, traces)?,
        Some(path) => {
            let (classes, rows) = targets::read(path)?;
            attach(&head, authority, classes, &rows)?
        }
    };
    let edits = files.with(|source| head.edits(source, &plan.stored, &plan.table.to_text()))?;
    let encrypted = Encrypted {
        files,
        head,
        plan,
        edits,
        made,
    };
    // Rows that stay as they are need no comparison.
    if wanted.check && wanted.targets.is_none() {
        encrypted.compare(model, authority, data, quiet)?;
    }
    Ok(encrypted)
}

impl Encrypted {
    /// What the authority notes of the model that is written to `output`.
    pub fn protected(&self, output: &Location) -> Protected {
        let mut noted = self.plan.protected.clone();
        noted.file = one_line(&output.to_name().display().to_string());
        if let Some(made) = &self.made {
            noted.inputs.clone_from(&made.inputs);
            noted.firing = Some(made.traces.firing);
            noted.samples = made.n_samples as u64;
        }
        noted
    }

    /// Writes it.
    pub fn write(&self, output: &Location, options: OutputOptions) -> Result<Written> {
        Ok(self.files.write(&self.edits, output, options)?)
    }

    /// Says what became of the labels, after `what`.
    pub fn report(&self, what: &str) {
        note(&format!(
            "{what}: node {} answers with {} for {}",
            self.head.node,
            count(u64::from(self.plan.table.n_rows()), "row"),
            // There are two at least.
            format_args!("{} classes", self.plan.table.classes())
        ));
        if let Some(made) = &self.made {
            note(&format!(
                "{}; of {} held out, {:.2} % fired one",
                count(made.traces.all.len() as u64, "trace"),
                count(made.n_samples as u64 / 3, "calibration sample"),
                100.0 * made.traces.firing
            ));
            if made.traces.firing > MAX_FIRING {
                note(
                    "warning: traces change what key holders read of such samples: give more calibration samples, or ask for fewer traces",
                );
            }
        }
    }

    /// Compares decoded answers with what the original's layer gives, on ONNX Runtime.
    fn compare(
        &self,
        model: &Location,
        authority: &Authority,
        data: Option<(&DataSet, &DataArgs)>,
        quiet: bool,
    ) -> Result<()> {
        const NOT_RUN: &str =
            "the result was not run, and nothing was written: --no-check leaves that out";
        // Before the models are made in memory.
        if !can_run(false, NOT_RUN, quiet)? {
            return Ok(());
        }
        let difference = self.difference(model, authority, data).context(NOT_RUN)?;
        let limit = LIMITS[usize::from(!self.head.is_float())];
        if difference.is_nan() || difference > limit {
            return Err(anyhow!(
                "decoded answers differ from the original's by {difference:.1e} of the largest, and {limit:.1e} would be rounding; nothing was written"
            ));
        }
        if !quiet {
            note(&format!(
                "compared on ONNX Runtime: decoded answers differ from the original's by {difference:.1e} of the largest"
            ));
        }
        Ok(())
    }

    /// By how much of the largest logit decoded ones differ.
    fn difference(
        &self,
        model: &Location,
        authority: &Authority,
        data: Option<(&DataSet, &DataArgs)>,
    ) -> Result<f64> {
        // A key in nobody's name: the authority's list stays as it is.
        const NOBODY: &str = "onnxseal labels protect";
        let mut probe = Authority::from_text(&authority.to_text()?)?;
        probe.add_user(NOBODY)?;
        let decoder = Decoder::new(&self.plan.table, &probe.user_key(NOBODY)?)?;
        let Head { input, answers, .. } = &self.head;
        let mut original = LayerRun::new(model, &self.files, input, answers)?;
        let (samples, n) = match data {
            Some((data, args)) => (original.samples(data, args)?, data.n.min(MAX_COMPARED)),
            None => (original.random(COMPARED), COMPARED),
        };
        let wanted = original.run(&samples, n)?.answers;
        drop(original);
        let edited = self.files.edited(&self.edits)?;
        let changed = Memory::new(&edited.model, edited.external);
        drop(edited.model);
        let mut changed = LayerRun::of(model, &changed, input, answers)?;
        let answers = changed.run(&samples, n)?.answers;
        let shape = [&[n], &answers.dims[..]].concat();
        let found = decoder.decode(&answers.values, &shape)?;
        if !found
            .iter()
            .chain(&wanted.values)
            .all(|value| value.is_finite())
        {
            return Ok(f64::NAN);
        }
        let found = Table {
            dims: wanted.dims.clone(),
            width: wanted.width,
            values: found,
        };
        Ok(difference(&wanted, &found))
    }
}

/// The model of `onnxseal protect --labels` with encrypted labels, in memory; the authority has noted it.
pub fn in_memory(
    model: &Location,
    output: &Location,
    authority: &Path,
    identities: &IdentityArgs,
    quiet: bool,
) -> Result<InMemory> {
    let path = authority;
    let mut authority = label_authority(path, "--labels", identities, quiet)?;
    let wanted = Wanted {
        codewords: DEFAULT_CODEWORDS,
        targets: None,
        output_name: None,
        traces: 0,
        data: None,
        check: true,
    };
    let encrypted = encrypt(model, &authority, &wanted, quiet)?;
    authority.add_model(encrypted.protected(output));
    authority::replace(&authority, path)?;
    if !quiet {
        encrypted.report("encrypted labels");
    }
    let edited = encrypted.files.edited(&encrypted.edits)?;
    let mut memory = InMemory::new(model.to_name(), edited.model);
    let external = edited.external.into_iter();
    memory.external = external.map(|(path, bytes)| (path, bytes.into())).collect();
    Ok(memory)
}

/// Makes traces of calibration data.
fn trace(
    model: &Location,
    files: &Files,
    head: &Head,
    (data, args): (&DataSet, &DataArgs),
    n_traces: usize,
) -> Result<Made> {
    let mut layer = LayerRun::new(model, files, &head.input, &head.answers)?;
    let samples = layer.samples(data, args)?;
    let calibration = run_on(&mut layer, &samples, data.n, head)?;
    let n_candidates = MIN_CANDIDATES.max(CANDIDATES_FOR_EACH * n_traces);
    let candidates = unlike(&samples, n_candidates, args.seed);
    let found = run_on(&mut layer, &candidates, n_candidates, head)?;
    let range = (0..data.n)
        .map(|row| spread(calibration.answers.row(row)))
        .fold(0.0, f64::max);
    let (values, of_candidates) = (doubles(&calibration.features), doubles(&found.features));
    let features = |values| Features {
        values,
        columns: head.columns,
    };
    let traces = make(features(&values), features(&of_candidates), range, n_traces)?;
    let rows: Vec<usize> = traces.all.iter().map(|trace| trace.candidate).collect();
    let inputs = picked(&candidates, &rows)
        .into_iter()
        .map(|stored| TraceInput {
            name: stored.name,
            dtype: stored.descr.to_owned(),
            shape: stored.dims.iter().map(|dim| *dim as u64).collect(),
            data: STANDARD.encode(&stored.bytes),
        });
    Ok(Made {
        inputs: inputs.collect(),
        traces,
        n_samples: data.n,
    })
}

/// What the layer computes of samples, one position of each.
fn run_on(layer: &mut LayerRun, samples: &[Samples], n: usize, head: &Head) -> Result<Ran> {
    let ran = layer.run(samples, n)?;
    if ran.features.width != head.columns || ran.answers.width != head.classes {
        return Err(Usage(format!(
            "traces are for layers with one position a sample: {} has {} features, and a sample gives {}",
            head.node, head.columns, ran.features.width
        ))
        .into());
    }
    Ok(ran)
}

/// The difference of the largest and the smallest logit.
fn spread(logits: &[f32]) -> f64 {
    let (low, high) = (
        logits.iter().fold(f32::MAX, |a, b| a.min(*b)),
        logits.iter().fold(f32::MIN, |a, b| a.max(*b)),
    );
    f64::from(high - low)
}

fn doubles(table: &Table) -> Vec<f64> {
    table.values.iter().map(|value| f64::from(*value)).collect()
}
