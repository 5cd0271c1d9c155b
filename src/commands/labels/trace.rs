//! `onnxseal labels trace`

use std::io::Write as _;

use anyhow::{Context as _, Result};
use onnxseal_core::Readers;
use onnxseal_data::npy::npz;
use onnxseal_labels::{SHOWN, Verdict};

use super::authority;
use super::inspect::table;
use crate::cli::labels::Trace;
use crate::exit::usage;
use crate::io::{Written, read_text};
use crate::render;
use crate::text::{count, printable, tell};

/// The longest answers, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Writes the inputs of traces, or reads a service's answers and reports whose key it uses.
pub fn run(args: &Trace) -> Result<()> {
    let table = table(&args.model)?;
    let authority = authority::read(&args.authority)?;
    let model = authority.model_of(table.digest())?;
    if model.traces.is_empty() {
        return Err(usage("the model has no traces: protect it with --traces"));
    }
    if let Some(path) = &args.inputs {
        let written = Written::new(path, "inputs", args.force);
        let inputs = npz(&model.trace_inputs()?).context("cannot make the inputs")?;
        written.write(&inputs, Readers::Owner)?;
        let traces = count(model.traces.len() as u64, "trace");
        tell(&format!("wrote {} for {traces}", path.display()));
        return Ok(());
    }
    let Some(path) = &args.answers else {
        return Err(usage("give --inputs or --answers"));
    };
    let text = read_text(path, "--answers", MAX_ANSWER_BYTES)?;
    let verdict = authority.trace(model, &model.trace_answers(&text)?)?;
    show(&verdict, args.json)
}

fn show(verdict: &Verdict, as_json: bool) -> Result<()> {
    if as_json {
        return render::json(&verdict.to_json());
    }
    let accused: Vec<&str> = verdict.accused().map(|suspect| &*suspect.name).collect();
    let mut out = std::io::stdout().lock();
    for suspect in verdict.suspects.iter().take(SHOWN) {
        writeln!(
            out,
            "{:>5} of {} {}",
            suspect.matches,
            verdict.traces,
            printable(&suspect.name)
        )?;
    }
    match verdict.threshold {
        Some(threshold) => writeln!(
            out,
            "accused from {threshold} matches: {}",
            if accused.is_empty() {
                "nobody".to_owned()
            } else {
                printable(&accused.join(", "))
            }
        )?,
        None => writeln!(
            out,
            "accused: nobody. There are too few traces for this many users"
        )?,
    }
    writeln!(
        out,
        "probability that an innocent user matches as many as the first: {:.1e}",
        verdict.innocent
    )?;
    Ok(())
}
