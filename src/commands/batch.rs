//! `onnxseal batch`

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use onnxseal_batch::{self as batch, Operation, Options, Report, Watch as _};
use onnxseal_core::{ErrorKind, Readers};

use crate::checks::passed_over;
use crate::cli::batch::{Batch, Course, Outputs};
use crate::exit::{failed, kind_code, usage};
use crate::io::Written;
use crate::progress::Bars;
use crate::stop::Stop;
use crate::text::{bytes, count, is_quiet};
use crate::{named, render};

pub fn run(args: &Batch) -> Result<()> {
    match args {
        Batch::Protect(args) => {
            let job = Job::begin(&args.course, Some(&args.outputs))?;
            let options = args.protecting.read(true)?;
            let recipients = args.protecting.recipients.require()?;
            let operation = Operation::Protect {
                recipients: (&recipients).into(),
                options: &options,
            };
            job.carry_out(&operation)
        }
        Batch::Unprotect(args) => {
            let job = Job::begin(&args.course, Some(&args.outputs))?;
            let opening = args.opening.require_for(&args.reader)?;
            let access = opening.access_to(&args.reader);
            job.carry_out(&Operation::Unprotect { access })
        }
        Batch::Rekey(args) => {
            let job = Job::begin(&args.course, Some(&args.outputs))?;
            let opening = args.opening.require()?;
            let recipients = args.recipients.require()?;
            let operation = Operation::Rekey {
                access: opening.access(),
                recipients: (&recipients).into(),
            };
            job.carry_out(&operation)
        }
        Batch::Rotate(args) => {
            let job = Job::begin(&args.course, Some(&args.outputs))?;
            let opening = args.opening.require()?;
            let recipients = args.rotating.recipients.require()?;
            let options = args.rotating.read(true)?;
            let operation = Operation::Rotate {
                access: opening.access(),
                recipients: (&recipients).into(),
                options: &options,
            };
            job.carry_out(&operation)
        }
        Batch::Verify(args) => {
            let job = Job::begin(&args.course, None)?;
            let demands = args.verifying.read(true)?;
            let checks = demands.checks();
            job.carry_out(&Operation::Verify { checks })
        }
    }
}

struct Job<'a> {
    course: &'a Course,
    options: Options,
    report: Option<Written<'a>>,
}

impl<'a> Job<'a> {
    /// Fails if the report may not be written.
    fn begin(course: &'a Course, outputs: Option<&Outputs>) -> Result<Job<'a>> {
        let report = course.report.as_deref().map(|path| Written {
            path,
            what: "report",
            force: course.force,
            is_earlier: Some(is_report),
        });
        report.as_ref().map(Written::check).transpose()?;
        let options = options(course, outputs)?;
        Ok(Job {
            course,
            options,
            report,
        })
    }

    fn carry_out(self, operation: &Operation<'_>) -> Result<()> {
        let stop = Stop::listen()?;
        let (sources, options) = (&self.course.sources, &self.options);
        if let Some(out) = &options.out {
            batch::check_sources(&sources.sources, out)?;
        }
        let found = batch::discover(&sources.sources, &sources.lists)?;
        let bars = Bars::new(&stop);
        if let Some(text) = passed_over(&found) {
            bars.note(&text);
        }
        let report = batch::run(found, operation, options, &bars)?;
        bars.finish();
        if let Some(written) = &self.report {
            written.write(&render::json_bytes(&report)?, Readers::Usual)?;
        }
        if !is_quiet() {
            summarise(&report)?;
        }
        judge(report, stop.signal(), options.out.is_some())
    }
}

/// Returns whether a file that begins with `start` is the report of a batch.
fn is_report(start: &[u8]) -> bool {
    const START: &[u8] = b"{\"operation\":\"";
    let text = start.iter().filter(|byte| !byte.is_ascii_whitespace());
    text.take(START.len()).eq(START)
}

/// Returns the options of a batch, with `outputs` of one that writes models.
fn options(args: &Course, outputs: Option<&Outputs>) -> Result<Options> {
    let mut options = Options::default();
    options.jobs = args.jobs.map(|jobs| jobs as usize);
    options.memory_bytes = args.memory;
    options.fail_fast = args.fail_fast;
    options.report = args.report.as_deref().cloned();
    options.shard = args.shard;
    options.checksum = args.checksum;
    let Some(outputs) = outputs else {
        return Ok(options);
    };
    if outputs.out.is_none() && args.checksum {
        return Err(usage(
            "digests are for records and outputs: give --out too, or leave out --checksum",
        ));
    }
    options.out = outputs.out.as_ref().map(|out| out.0.clone());
    options.spared = named::files();
    options.resume = outputs.resume;
    options.records = !outputs.no_records;
    options.replace = args.force;
    options.flush = outputs.sync.flush();
    Ok(options)
}

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
    let shard = report.shard.as_ref();
    let shard = shard.map_or(String::new(), |shard| format!(" (part {shard})"));
    writeln!(
        std::io::stdout(),
        "{}: {} of {}{shard}; {} in {:.1} s",
        report.operation,
        parts.join(", "),
        count(totals.models as u64, "model"),
        bytes(totals.bytes),
        totals.seconds
    )?;
    Ok(())
}

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
        return Err(failed(128 + signal as u8, text));
    }
    if let Some(error) = report.sync_error {
        return Err(error.into());
    }
    let code = match (classes.len(), classes.first()) {
        (0, _) => return Ok(()),
        (1, Some(class)) => kind_code(*class),
        _ => 1,
    };
    let mut text = format!("{} of {} models failed", totals.failed, totals.models);
    if totals.pending > 0 {
        text += &format!(", {} were not started", totals.pending);
    }
    Err(failed(code, text))
}
