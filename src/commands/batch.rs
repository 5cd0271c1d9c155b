//! `onnxseal batch`

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use onnxseal_batch::{self as batch, Operation, Options, Report, Watch as _};
use onnxseal_core::{Checks, ErrorKind, Location, ProtectOptions, RotateOptions};

use crate::checks::passed_over;
use crate::cli::OutFolder;
use crate::cli::batch::{
    Batch, Course, Making, Operation as Args, Outputs, OutputsOrInPlace, Sources,
};
use crate::exit::{Failures, Usage, kind_code};
use crate::io::{self, Written};
use crate::progress::{Bars, bytes};
use crate::stop::Stop;
use crate::{named, render};

/// Runs an operation on many models.
pub fn run(args: &Batch, quiet: bool) -> Result<()> {
    match &args.operation {
        Args::Protect(args) => {
            let job = Job::begin(&args.sources, &args.course, args.outputs.making.force)?;
            let mut options = ProtectOptions::new(io::for_many(io::policy(&args.policy)?));
            options.repack = args.repack;
            options.claims = io::claims(&args.claims)?;
            options.signing_key = args.signing.read()?;
            let recipients = args.recipients.require(quiet)?;
            let operation = Operation::Protect {
                recipients: (&recipients).into(),
                options: &options,
            };
            let Outputs { out, making } = &args.outputs;
            job.carry_out(&operation, writing(Some(out), making, &args.course), quiet)
        }
        Args::Unprotect(args) => {
            let job = Job::begin(&args.sources, &args.course, args.outputs.making.force)?;
            let opening = args.opening.require(quiet)?;
            let operation = Operation::Unprotect {
                access: opening.access_to(&args.tier),
            };
            let Outputs { out, making } = &args.outputs;
            job.carry_out(&operation, writing(Some(out), making, &args.course), quiet)
        }
        Args::Rekey(args) => {
            let job = Job::begin(&args.sources, &args.course, args.outputs.making.force)?;
            let opening = args.opening.require(quiet)?;
            let recipients = args.recipients.require(quiet)?;
            let operation = Operation::Rekey {
                access: opening.access(),
                recipients: (&recipients).into(),
            };
            job.carry_out(&operation, or_in_place(&args.outputs, &args.course)?, quiet)
        }
        Args::Rotate(args) => {
            let job = Job::begin(&args.sources, &args.course, args.outputs.making.force)?;
            let opening = args.opening.require(quiet)?;
            let recipients = args.recipients.require(quiet)?;
            let options = RotateOptions {
                lock: args.policy.lock(),
                claims: io::claims(&args.claims)?,
                policy: io::chosen_policy(&args.policy)?.map(io::for_many),
                signature: args.signing.read()?,
                external_data: None,
            };
            let operation = Operation::Rotate {
                access: opening.access(),
                recipients: (&recipients).into(),
                options: &options,
            };
            job.carry_out(&operation, or_in_place(&args.outputs, &args.course)?, quiet)
        }
        Args::Verify(args) => {
            let job = Job::begin(&args.sources, &args.course, args.force)?;
            let policy = io::least_policy(&args.policy)?.map(io::for_many);
            let (identities, signed_by) = args.opening.read(quiet)?;
            let require = args.claims.read()?;
            let checks = Checks {
                identities: identities.as_ref(),
                signed_by: signed_by.as_ref(),
                edition: args.tier.edition_for(identities.as_ref())?,
                require: require.as_ref(),
                policy: policy.as_ref(),
                ..Checks::default()
            };
            let operation = Operation::Verify { checks };
            job.carry_out(&operation, reading(&args.course), quiet)
        }
    }
}

/// The arguments that all operations share.
struct Job<'a> {
    sources: &'a Sources,
    report: Option<Written<'a>>,
}

impl<'a> Job<'a> {
    /// Fails if the report may not be written.
    fn begin(sources: &'a Sources, course: &'a Course, force: bool) -> Result<Job<'a>> {
        let report = report(course, force)?;
        Ok(Job { sources, report })
    }

    fn carry_out(self, operation: &Operation<'_>, options: Options, quiet: bool) -> Result<()> {
        let stop = Stop::listen()?;
        if let Some(out) = &options.out {
            batch::check_sources(&self.sources.sources, out)?;
        }
        let found = onnxseal_batch::discover(&self.sources.sources, &self.sources.lists)?;
        let bars = Bars::new(quiet, &stop);
        if let Some(text) = passed_over(&found) {
            bars.note(&text);
        }
        let report = batch::run(found, operation, &options, &bars)?;
        bars.finish();
        if let Some(written) = &self.report {
            written.write(&render::json_bytes(&report)?)?;
        }
        if !quiet {
            summarise(&report)?;
        }
        judge(report, stop.signal(), options.out.is_some())
    }
}

/// Returns the requested report.
fn report(args: &Course, force: bool) -> Result<Option<Written<'_>>> {
    let Some(path) = args.report.as_deref() else {
        return Ok(None);
    };
    let report = Written {
        path,
        what: "report",
        force,
        is_earlier: Some(is_report),
    };
    report.check()?;
    Ok(Some(report))
}

/// Returns whether a file that begins with `start` is the report of a batch.
fn is_report(start: &[u8]) -> bool {
    let start: Vec<u8> = start
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    start.starts_with(b"{\"operation\":\"")
}

/// Returns the options of a batch without outputs.
fn reading(args: &Course) -> Options {
    let mut options = Options::default();
    options.jobs = args.jobs.map(|jobs| jobs as usize);
    options.memory_bytes = args.memory;
    options.fail_fast = args.fail_fast;
    options.report = args.report.as_deref().cloned();
    options.shard = args.shard;
    options.checksum = args.checksum;
    options
}

/// Returns the options of a batch that may change models in place.
fn or_in_place(outputs: &OutputsOrInPlace, args: &Course) -> Result<Options> {
    if outputs.out.is_none() && args.checksum {
        let text = "digests are for records and outputs: give --out too, or leave out --checksum";
        return Err(Usage(text.into()).into());
    }
    Ok(writing(outputs.out.as_ref(), &outputs.making, args))
}

/// Returns the options of a batch that writes models, to `out` or in place.
fn writing(out: Option<&OutFolder<Location>>, making: &Making, args: &Course) -> Options {
    let mut options = reading(args);
    options.out = out.map(|out| (**out).clone());
    options.spared = named::files();
    options.resume = making.resume;
    options.records = !making.no_records;
    options.replace = making.force;
    options.flush = making.sync.flush();
    options
}

/// Prints the last line.
fn summarise(report: &Report) -> Result<()> {
    let totals = &report.totals;
    let mut parts = vec![format!("{} done", totals.done)];
    for (n, what) in [
        (totals.skipped, "done before"),
        (totals.failed, "failed"),
        (totals.pending, "not started"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    }
    let (models, operation) = (totals.models, report.operation);
    let shard = report.shard.as_ref();
    let shard = shard.map_or(String::new(), |shard| format!(" (part {shard})"));
    writeln!(
        std::io::stdout(),
        "{operation}: {} of {models} model{}{shard}; {} in {:.1} s",
        parts.join(", "),
        if models == 1 { "" } else { "s" },
        bytes(totals.bytes),
        totals.seconds
    )?;
    Ok(())
}

/// Returns the result of the command, which gives its exit code.
fn judge(report: Report, signal: Option<i32>, resumes: bool) -> Result<()> {
    let failures = report
        .models
        .iter()
        .filter_map(|model| model.error.as_ref());
    let classes: BTreeSet<ErrorKind> = failures.map(|failure| failure.class).collect();
    let totals = report.totals;
    if let (Some(signal), true) = (signal, report.stopped) {
        let how = if resumes { "; go on with --resume" } else { "" };
        let (pending, all) = (totals.pending, totals.models);
        let text = format!("stopped before {pending} of {all} models{how}");
        let code = 128 + signal as u8;
        return Err(Failures { code, text }.into());
    }
    if let Some(error) = report.sync_error {
        return Err(error.into());
    }
    let code = match (classes.len(), classes.first()) {
        (0, _) => return Ok(()),
        (1, Some(class)) => kind_code(*class),
        _ => 1,
    };
    let text = match totals.pending {
        0 => format!("{} of {} models failed", totals.failed, totals.models),
        n => format!(
            "{} of {} models failed, {n} were not started",
            totals.failed, totals.models
        ),
    };
    Err(Failures { code, text }.into())
}
