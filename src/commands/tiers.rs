//! `onnxseal tiers`

use std::io::{self, Write};

use anyhow::Result;
use onnxseal_assess::report::curve::{CURVE_HEAD, TIER_HEAD, TuningSummary};
use onnxseal_assess::{Metric, Tuning, tune};
use onnxseal_core::{Policy, Readers};

use super::assess::{data, lines, rows, subject, until_stopped};
use crate::cli::tiers::{Tiers, Tune};
use crate::exit::usage;
use crate::io::{self as files, Written};
use crate::render;
use crate::stop::Stop;
use crate::text::is_quiet;

/// The name of the tier that opens everything.
const HIGHEST: &str = "full";

pub fn run(args: &Tiers) -> Result<()> {
    let Tiers::Tune(args) = args;
    let output = Written::new(&args.output, "policy", args.force);
    output.check()?;
    let (mut policy, text) = base(args)?;
    if let Some(path) = &args.ranking {
        policy.set_ranking(files::read_ranking(path)?);
    }
    let subject = subject(&args.model, &args.opening)?;
    let missing = || usage("editions are measured on real samples: give --data");
    let data = data(&args.data)?.ok_or_else(missing)?;
    let metric = args.metric.read()?;
    let mut options = args.data.of_assessment();
    options.metric = metric.as_ref().map(|metric| metric as &dyn Metric);

    let targets = (args.targets.as_slice(), HIGHEST);
    let stop = Stop::listen()?;
    let tuned = until_stopped(&stop, "nothing was written", |steps| {
        tune(&subject, &data, &policy, targets, &options, steps)
    })?;
    output.write(tuned.policy_text(&text).as_bytes(), Readers::Usual)?;
    if args.json {
        return render::json(&tuned);
    }
    if is_quiet() { Ok(()) } else { show(&tuned) }
}

/// Returns the policy without tiers, and its text.
fn base(args: &Tune) -> Result<(Policy, String)> {
    match &args.policy {
        Some(path) => files::read_policy(path),
        None => {
            let preset = args.preset.unwrap_or_default();
            Ok((Policy::preset(preset), preset.policy_text()))
        }
    }
}

fn show(tuned: &Tuning) -> Result<()> {
    let summary = TuningSummary::of(tuned);
    let mut out = io::BufWriter::new(io::stdout().lock());
    lines(&mut out, &summary.before)?;
    rows(&mut out, TIER_HEAD, summary.tiers)?;
    rows(&mut out, CURVE_HEAD, summary.curve)?;
    writeln!(out)?;
    lines(&mut out, &summary.after)?;
    Ok(out.flush()?)
}
