//! `onnxseal labels protect`

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_assess::candidates::{picked, unlike};
use onnxseal_assess::engine::{Samples, Table};
use onnxseal_labels::head::Head;
use onnxseal_labels::traces::{Features, Trace, Traces, make};
use onnxseal_labels::{TraceInput, protect};
use onnxseal_rewrite::Files;

use super::authority;
use super::layer_run::{LayerRun, Ran};
use crate::cli::labels::Protect;
use crate::exit::Usage;
use crate::text::{count, note, one_line};

/// Inputs that are tried for each trace, and at least so many.
const CANDIDATES_FOR_EACH: usize = 16;
const MIN_CANDIDATES: usize = 384;

/// Traces, the inputs that they answer to, and how many samples they come of.
struct Made {
    traces: Traces,
    inputs: Vec<TraceInput>,
    n_samples: usize,
}

/// Protects the labels of a model, and notes it in the authority's file.
pub fn run(args: &Protect, quiet: bool) -> Result<()> {
    let output = args.output.for_output_of(&args.model)?;
    // At once: a run over calibration data takes long.
    let is_free = args.output_options.check_free(&output);
    is_free.map_err(onnxseal_core::Error::Store)?;
    let mut authority = authority::read(&args.authority, quiet)?;
    let files = Files::open(&args.model)?;
    let head = files.with(|source| Head::find(source, args.output_name.as_deref()))?;
    let made = match args.traces {
        0 => None,
        _ => Some(trace(args, &files, &head)?),
    };
    let traces: &[Trace] = made.as_ref().map_or(&[], |made| &made.traces.all);
    let plan = protect(&head, &authority, args.codewords, traces)?;
    let edits = files.with(|source| head.edits(source, &plan.stored, &plan.table.to_text()))?;
    // The note first: a model whose traces nobody knows could not be traced.
    let mut noted = plan.protected;
    noted.file = one_line(&output.to_name().display().to_string());
    if let Some(made) = &made {
        noted.inputs.clone_from(&made.inputs);
        noted.firing = Some(made.traces.firing);
        noted.samples = made.n_samples as u64;
    }
    authority.add_model(noted);
    authority::replace(&authority, &args.authority.authority)?;
    let written = files.write(&edits, &output, args.output_options.core())?;
    if quiet {
        return Ok(());
    }
    let to = written.files.last().map(|path| path.display().to_string());
    note(&format!(
        "wrote {}: node {} answers with {} for {}",
        one_line(&to.unwrap_or_default()),
        head.node,
        count(u64::from(plan.table.n_rows()), "row"),
        // There are two at least.
        format_args!("{} classes", head.classes)
    ));
    if let Some(made) = &made {
        note(&format!(
            "{}; of {} held out, {:.2} % fired one",
            count(made.traces.all.len() as u64, "trace"),
            count(made.n_samples as u64 / 3, "calibration sample"),
            100.0 * made.traces.firing
        ));
    }
    note(
        "labels that only key holders read do not hide features: run `onnxseal protect` on the result too",
    );
    Ok(())
}

/// Makes traces of calibration data.
fn trace(args: &Protect, files: &Files, head: &Head) -> Result<Made> {
    let data = crate::commands::assess::data(&args.data)?.context("--traces needs --data")?;
    let mut layer = LayerRun::new(&args.model, files, &head.input, &head.answers)?;
    let samples = layer.samples(&data, &args.data)?;
    let calibration = run_on(&mut layer, &samples, data.n, head)?;
    let n_candidates = MIN_CANDIDATES.max(CANDIDATES_FOR_EACH * args.traces);
    let candidates = unlike(&samples, n_candidates, args.data.seed);
    let found = run_on(&mut layer, &candidates, n_candidates, head)?;
    let range = (0..data.n)
        .map(|row| spread(calibration.answers.row(row)))
        .fold(0.0, f64::max);
    let (values, of_candidates) = (doubles(&calibration.features), doubles(&found.features));
    let features = |values| Features {
        values,
        columns: head.columns,
    };
    let traces = make(
        features(&values),
        features(&of_candidates),
        range,
        args.traces,
    )?;
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
