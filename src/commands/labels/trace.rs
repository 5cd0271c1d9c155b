//! `onnxseal labels trace`

use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use onnxseal_data::npy::{npz, write_npz};
use onnxseal_labels::{Protected, SHOWN, Verdict};

use super::authority;
use super::inspect::table;
use crate::cli::labels::Trace;
use crate::exit::Usage;
use crate::io::{Written, read_text};
use crate::render;
use crate::text::{count, note, printable};

/// The longest answers, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Asks a service, or reads its answers, and reports whose key it uses.
pub fn run(args: &Trace, quiet: bool) -> Result<()> {
    let table = table(&args.model)?;
    let authority = authority::read(&args.authority, quiet)?;
    let model = authority.model_of(table.digest())?;
    if model.traces.is_empty() {
        return Err(Usage("the model has no traces: protect it with --traces".into()).into());
    }
    if let Some(path) = &args.inputs {
        let written = Written::new(path, "inputs", args.force);
        let inputs = npz(&model.trace_inputs()?).context("cannot make the inputs")?;
        written.write_secret(&inputs)?;
        if !quiet {
            note(&format!(
                "wrote {} for {}",
                path.display(),
                count(model.traces.len() as u64, "trace")
            ));
        }
        return Ok(());
    }
    let text = match (&args.service, &args.answers) {
        (Some(command), _) => ask(command, model)?,
        (None, Some(path)) => read_text(path, "--answers", MAX_ANSWER_BYTES)?,
        (None, None) => return Err(Usage("give --service, --answers or --inputs".into()).into()),
    };
    let verdict = authority.trace(model, &model.trace_answers(&text)?)?;
    show(&verdict, args.json)
}

/// Runs the program that asks a service, and returns its output.
fn ask(command: &str, model: &Protected) -> Result<String> {
    let mut words = command.split_whitespace();
    let program = words
        .next()
        .ok_or_else(|| Usage("--service names no program".into()))?;
    let folder = tempfile::tempdir().context("cannot make a folder for inputs")?;
    let path = folder.path().join("inputs.npz");
    write_npz(&path, &model.trace_inputs()?)?;
    let output = Command::new(program).args(words).arg(&path).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let err = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!(
            "{program}: {}: {}",
            output.status,
            err.lines().last().unwrap_or_default()
        );
    }
    if output.stdout.len() > MAX_ANSWER_BYTES {
        return Err(Usage(format!("{program} printed too much")).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
