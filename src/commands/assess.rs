//! `onnxseal assess`

use std::io::{self, Write};

use anyhow::Result;
use onnxseal_assess::report::summary::{HEAD, Summary};
use onnxseal_assess::{Assessment, Error, Metric, NamedPolicy, PublicModel, Subject, report};
use onnxseal_core::{self as core, Location, Preset, Readers};
use onnxseal_data::DataSet;

use crate::cli::assess::{Assess, DataArgs};
use crate::exit::{not_met, stopped, usage};
use crate::io::{self as files, Written};
use crate::progress::Bar;
use crate::render;
use crate::signing::OpeningArgs;
use crate::stop::Stop;
use crate::table::{Frame, Table};
use crate::text::{is_quiet, printable};

pub fn run(args: &Assess) -> Result<()> {
    let page = args
        .report
        .as_deref()
        .map(|path| Written::new(path, "report", args.force));
    if let Some(page) = &page {
        page.check()?;
    }
    if args.require_holds && args.base.is_none() && !args.no_public_base {
        return Err(usage(
            "--require-holds needs the public model that this one was fine-tuned from: --base PUBLIC.onnx; or, if it was trained \
             from scratch, --no-public-base",
        ));
    }
    let candidates = candidates(args)?;
    let subject = subject(&args.model, &args.opening)?;
    let base = args
        .base
        .clone()
        .map(Subject::plain)
        .transpose()
        .map_err(lift)?;
    let data = data(&args.data)?;
    let metric = args.metric.read()?;
    let mut options = args.data.of_assessment();
    options.candidates = candidates;
    options.attacker_samples.clone_from(&args.attacker_samples);
    options.metric = metric.as_ref().map(|metric| metric as &dyn Metric);
    options.base = match &base {
        Some(base) => PublicModel::Known(base),
        None if args.no_public_base => PublicModel::None,
        None => PublicModel::Unknown,
    };

    let stop = Stop::listen()?;
    let assessment = until_stopped(&stop, "nothing was written", |steps| {
        onnxseal_assess::assess(&subject, data.as_ref(), &options, steps)
    })?;
    if let Some(page) = &page {
        let html = report::html(&assessment).map_err(lift)?;
        page.write(html.as_bytes(), Readers::Usual)?;
    }
    match args.json {
        true => render::json(&assessment)?,
        false if is_quiet() => {}
        false => show(&assessment)?,
    }
    require_holds(args, &assessment)
}

/// Returns the policies that the command line names; with a ranking and no names, all presets with
/// that ranking.
fn candidates(args: &Assess) -> Result<Vec<NamedPolicy>> {
    let mut named: Vec<NamedPolicy> = args.presets.iter().map(|&preset| preset.into()).collect();
    for path in &args.policies {
        named.push(NamedPolicy {
            name: path.display().to_string(),
            policy: files::read_policy(path)?.0,
        });
    }
    if let Some(path) = &args.ranking {
        if named.is_empty() {
            named = Preset::ALL.map(NamedPolicy::from).to_vec();
        }
        let ranking = files::read_ranking(path)?;
        named
            .iter_mut()
            .for_each(|named| named.policy.set_ranking(ranking.clone()));
    }
    Ok(named)
}

/// Reads the model, and opens it if it is protected.
pub fn subject(model: &Location, opening: &OpeningArgs) -> Result<Subject> {
    if core::is_protected(model)? {
        let opening = opening.require()?;
        return Subject::protected(model.clone(), opening.access()).map_err(lift);
    }
    if opening.identities.is_given() || opening.signers.allowed_signers.is_some() {
        return Err(usage(format!(
            "{model} is not protected: leave out --identity, --identity-command and --allowed-signers"
        )));
    }
    Subject::plain(model.clone()).map_err(lift)
}

pub fn data(args: &DataArgs) -> Result<Option<DataSet>> {
    let Some(path) = &args.data else {
        return Ok(None);
    };
    let data = DataSet::load(path, args.labels.as_deref(), &args.options())?;
    Ok(Some(data))
}

fn show(assessment: &Assessment) -> Result<()> {
    let summary = Summary::of(assessment);
    let mut out = io::BufWriter::new(io::stdout().lock());
    lines(&mut out, &summary.before)?;
    rows(&mut out, HEAD, summary.rows)?;
    writeln!(out)?;
    lines(&mut out, &summary.after)?;
    Ok(out.flush()?)
}

pub fn lines(out: &mut impl Write, lines: &[String]) -> io::Result<()> {
    let mut lines = lines.iter();
    lines.try_for_each(|line| writeln!(out, "{}", printable(line)))
}

/// Prints a table below an empty line.
pub fn rows<const N: usize>(
    out: &mut impl Write,
    head: [&'static str; N],
    rows: Vec<[String; N]>,
) -> io::Result<()> {
    writeln!(out)?;
    let mut table = Table::new(head);
    rows.into_iter().for_each(|row| table.row(row));
    table.print(out, Frame::of_terminal())
}

fn require_holds(args: &Assess, assessment: &Assessment) -> Result<()> {
    if !args.require_holds {
        return Ok(());
    }
    let names_none = args.presets.is_empty() && args.policies.is_empty();
    let failures = assessment.failures(names_none);
    let reasons: Vec<String> = failures
        .map(|candidate| assessment.reason(candidate))
        .collect();
    if reasons.is_empty() {
        return Ok(());
    }
    Err(not_met(reasons.join("; ")))
}

/// Runs a long call, and ends it if the user asks. The error then says `what` came of it.
pub fn until_stopped<T>(
    stop: &Stop,
    what: &str,
    call: impl FnOnce(&Bar<'_>) -> Result<T, Error>,
) -> Result<T> {
    let steps = Bar::of_steps(stop);
    let called = call(&steps);
    drop(steps);
    match (called, stop.signal()) {
        (Err(Error::Cancelled), Some(signal)) => Err(stopped(signal, what)),
        (called, _) => called.map_err(lift),
    }
}

/// Takes core's error out of an error, to give its hint.
pub fn lift(error: Error) -> anyhow::Error {
    match error {
        Error::Core(error) => error.into(),
        error => error.into(),
    }
}
