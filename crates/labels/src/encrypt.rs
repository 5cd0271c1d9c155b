//! Encrypts the labels of a model, before it is written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_data::{DataOptions, DataSet};
use onnxseal_engine::{Samples, Table, difference};
use onnxseal_rewrite::{Edit, Files, Written};
use onnxseal_store::{Location, OutputOptions};

use crate::authority::{Authority, Protected, TraceInput};
use crate::candidates::{picked, unlike};
use crate::decode::Decoder;
use crate::decoding::Decoding;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::layer_run::{LayerRun, Ran};
use crate::protect::{DEFAULT_CODEWORDS, Plan, attach, protect};
use crate::traces::{Features, Traces, make};

/// Inputs to try for each trace, and the least number.
const CANDIDATES_FOR_EACH: usize = 16;
const MIN_CANDIDATES: usize = 384;

/// The share of samples that may fire a trace without a warning.
pub const MAX_FIRING: f64 = 0.002;

/// Samples for comparing original and result: random ones, and at most this many of a data set.
const COMPARED: usize = 8;
const MAX_COMPARED: usize = 256;

/// The largest difference of decoded logits, as a share of the largest logit, for layers of 32 and
/// of 16 bits.
const LIMITS: [f64; 2] = [1e-4, 2e-2];

#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EncryptOptions<'a> {
    pub codewords: u32,
    /// The matrix that the model was trained with, if any: its rows stay as they are.
    pub decoding: Option<&'a Decoding>,
    /// The output with the classes, if the model has several.
    pub output_name: Option<&'a str>,
    /// The number of traces to add. They need `data`.
    pub traces: usize,
    /// Samples for traces and for the comparison, and how to fit them to the inputs.
    pub data: Option<(&'a DataSet, &'a DataOptions)>,
}

impl Default for EncryptOptions<'_> {
    fn default() -> Self {
        EncryptOptions {
            codewords: DEFAULT_CODEWORDS,
            decoding: None,
            output_name: None,
            traces: 0,
            data: None,
        }
    }
}

/// A model, and the edits that encrypt its labels.
#[derive(Debug)]
pub struct Encrypted<'a> {
    name: String,
    files: Files,
    head: Head,
    plan: Plan,
    edits: Vec<Edit>,
    options: EncryptOptions<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub node: String,
    pub rows: u32,
    pub classes: u32,
    pub traces: usize,
    /// Samples held out from making traces.
    pub held_out: usize,
    /// The share of these samples that fired a trace: see [`MAX_FIRING`].
    pub firing: f64,
}

/// Encrypts the labels of a model, without writing it. The authority does not note it yet: see
/// [`Encrypted::protected`].
///
/// # Errors
/// [`Error::Rewrite`] if no layer of the model can be split; [`Error::Usage`] for options that
/// contradict each other; [`Error::Engine`] if traces are requested and the model does not run.
pub fn encrypt<'a>(
    model: &Location,
    authority: &Authority,
    options: EncryptOptions<'a>,
) -> Result<Encrypted<'a>> {
    let name = model.to_name().display().to_string();
    let files = Files::open(model)?;
    let head = files.with(|source| Head::find(source, options.output_name))?;
    let usage = |text: &str| Err(Error::Usage(text.into()));
    let plan = match (options.decoding, options.traces, options.data) {
        (Some(decoding), 0, _) => attach(&head, authority, decoding.classes, &decoding.rows)?,
        (Some(_), ..) => return usage("a model that was trained on targets gets no traces"),
        (None, 0, _) => protect(&head, authority, options.codewords, &[])?,
        (None, _, None) => return usage("traces need data"),
        (None, n, Some(data)) => {
            let (traces, inputs) = trace(&name, &files, &head, data, n)?;
            let mut plan = protect(&head, authority, options.codewords, &traces.all)?;
            plan.protected.inputs = inputs;
            plan.protected.firing = Some(traces.firing);
            plan.protected.samples = data.0.n as u64;
            plan
        }
    };
    let edits = files.with(|source| head.edits(source, &plan.stored, &plan.table.to_text()))?;
    Ok(Encrypted {
        name,
        files,
        head,
        plan,
        edits,
        options,
    })
}

impl Encrypted<'_> {
    /// Returns the authority's entry for this model, written to a file called `output`.
    pub fn protected(&self, output: String) -> Protected {
        Protected {
            file: output,
            ..self.plan.protected.clone()
        }
    }

    pub fn write(&self, output: &Location, options: OutputOptions) -> Result<Written> {
        Ok(self.files.write(&self.edits, output, options)?)
    }

    pub fn summary(&self) -> Summary {
        let Plan {
            table, protected, ..
        } = &self.plan;
        Summary {
            node: self.head.node.clone(),
            rows: table.n_rows(),
            classes: table.classes(),
            traces: protected.traces.len(),
            held_out: protected.samples as usize / 3,
            firing: protected.firing.unwrap_or(0.0),
        }
    }

    /// Returns whether to compare the result with the original: rows that stay as they are need no
    /// comparison.
    pub fn needs_check(&self) -> bool {
        self.options.decoding.is_none()
    }

    /// Compares decoded answers with the output of the original's layer on ONNX Runtime. Returns
    /// the difference as a share of the largest logit.
    ///
    /// # Errors
    /// [`Error::Differs`] for more than rounding; [`Error::Engine`] if a model does not run.
    pub fn check(&self, authority: &Authority) -> Result<f64> {
        let difference = self.difference(authority)?;
        let limit = LIMITS[usize::from(!self.head.is_float())];
        if difference.is_nan() || difference > limit {
            return Err(Error::Differs { difference, limit });
        }
        Ok(difference)
    }

    fn difference(&self, authority: &Authority) -> Result<f64> {
        // A key of an unlisted user: the authority's list stays as it is.
        const NOBODY: &str = "onnxseal labels protect";
        let mut probe = Authority::from_text(&authority.to_text()?)?;
        probe.add_user(NOBODY)?;
        let decoder = Decoder::new(&self.plan.table, &probe.user_key(NOBODY)?)?;
        let Head { input, answers, .. } = &self.head;
        let mut original = LayerRun::new((&self.files, &[]), &self.name, input, answers)?;
        let (samples, n) = match self.options.data {
            Some((data, options)) => (original.samples(data, options)?, data.n.min(MAX_COMPARED)),
            None => (original.random(COMPARED), COMPARED),
        };
        let wanted = original.run(&samples, n)?.answers;
        drop(original);
        let edited = (&self.files, &self.edits[..]);
        let mut changed = LayerRun::new(edited, &self.name, input, answers)?;
        let answers = changed.run(&samples, n)?.answers;
        let shape = [&[n], &answers.dims[..]].concat();
        let found = decoder.decode(&answers.values, &shape)?;
        let mut all = found.iter().chain(&wanted.values);
        if !all.all(|value| value.is_finite()) {
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

fn trace(
    name: &str,
    files: &Files,
    head: &Head,
    (data, options): (&DataSet, &DataOptions),
    n_traces: usize,
) -> Result<(Traces, Vec<TraceInput>)> {
    let mut layer = LayerRun::new((files, &[]), name, &head.input, &head.answers)?;
    let samples = layer.samples(data, options)?;
    let calibration = run_on(&mut layer, &samples, data.n, head)?;
    let n_candidates = MIN_CANDIDATES.max(CANDIDATES_FOR_EACH * n_traces);
    let candidates = unlike(&samples, n_candidates, options.seed);
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
    let inputs = inputs.collect();
    Ok((traces, inputs))
}

/// Runs the layer on samples with one position each.
fn run_on(layer: &mut LayerRun, samples: &[Samples], n: usize, head: &Head) -> Result<Ran> {
    let ran = layer.run(samples, n)?;
    if ran.features.width != head.columns || ran.answers.width != head.classes {
        return Err(Error::Usage(format!(
            "traces are for layers with one position a sample: {} has {} features, and a sample gives {}",
            head.node, head.columns, ran.features.width
        )));
    }
    Ok(ran)
}

/// Returns the difference of the largest and the smallest logit.
fn spread(logits: &[f32]) -> f64 {
    let low = logits.iter().copied().fold(f32::MAX, f32::min);
    let high = logits.iter().copied().fold(f32::MIN, f32::max);
    f64::from(high - low)
}

fn doubles(table: &Table) -> Vec<f64> {
    table.values.iter().map(|value| f64::from(*value)).collect()
}
