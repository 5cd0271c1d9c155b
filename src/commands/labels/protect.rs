//! `onnxseal labels protect`

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_assess::candidates::{picked, unlike};
use onnxseal_assess::data::fit;
use onnxseal_assess::engine::{Files as InMemory, Net, Samples, Table};
use onnxseal_assess::{DataSet, Engine};
use onnxseal_core::{Location, StoreError};
use onnxseal_labels::head::Head;
use onnxseal_labels::traces::{Features, Trace, Traces, make};
use onnxseal_labels::{TraceInput, protect};
use onnxseal_rewrite::Files;

use super::authority;
use super::keygen::count;
use crate::cli::labels::Protect;
use crate::exit::Usage;
use crate::text::{note, one_line};

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
    if let Location::File(path) = &output
        && !args.output_options.force
        && path.symlink_metadata().is_ok()
    {
        let path = path.clone();
        return Err(onnxseal_core::Error::Store(StoreError::OutputExists { path }).into());
    }
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
        count(plan.table.n_rows() as usize, "row"),
        count(head.classes, "class").replace("classs", "classes")
    ));
    if let Some(made) = &made {
        note(&format!(
            "{}; of {} held out, {:.2} % fired one",
            count(made.traces.all.len(), "trace"),
            count(made.n_samples / 3, "calibration sample"),
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
    let engine = Engine::load()?;
    let external = files.read_external()?.into_iter();
    let memory = InMemory {
        model: files.bytes().into(),
        external: external.map(|(path, bytes)| (path, bytes.into())).collect(),
    };
    let name = args.model.to_name().display().to_string();
    let mut net = Net::new(&engine, &memory, &[&head.input, &head.answers], &name)?;
    let samples = fit(&data, net.inputs(), &args.data.options())?;
    let calibration = run_on(&mut net, &samples, data_rows(&data), head)?;
    let n_candidates = MIN_CANDIDATES.max(CANDIDATES_FOR_EACH * args.traces);
    let candidates = unlike(&samples, n_candidates, args.data.seed);
    let found = run_on(&mut net, &candidates, n_candidates, head)?;
    let range = calibration
        .logits
        .values
        .chunks(calibration.logits.width.max(1))
        .map(|row| {
            let (low, high) = (
                row.iter().fold(f32::MAX, |a, b| a.min(*b)),
                row.iter().fold(f32::MIN, |a, b| a.max(*b)),
            );
            f64::from(high - low)
        })
        .fold(0.0, f64::max);
    let (values, of_candidates) = (calibration.features(), found.features());
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

fn data_rows(data: &DataSet) -> usize {
    data.n
}

/// What a model computes of samples.
struct Ran {
    features: Table,
    logits: Table,
}

impl Ran {
    fn features(&self) -> Vec<f64> {
        self.features
            .values
            .iter()
            .map(|value| f64::from(*value))
            .collect()
    }
}

fn run_on(net: &mut Net, samples: &[Samples], n: usize, head: &Head) -> Result<Ran> {
    let place = |name: &str| net.outputs().iter().position(|output| output.name == name);
    let wanted = place(&head.input).zip(place(&head.answers));
    let (features, logits) = wanted.context("the layer's values are missing")?;
    let rows: Vec<usize> = (0..n).collect();
    let mut tables = net.run(samples, &rows, &[features, logits])?.into_iter();
    let (Some(features), Some(logits)) = (tables.next(), tables.next()) else {
        anyhow::bail!("the model gave nothing");
    };
    if features.width != head.columns || logits.width != head.classes {
        return Err(Usage(format!(
            "traces are for layers with one position a sample: {} has {} features, and a sample gives {}",
            head.node, head.columns, features.width
        ))
        .into());
    }
    Ok(Ran { features, logits })
}
