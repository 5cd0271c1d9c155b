//! One operation on many models: what `onnxseal batch` has.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use onnxseal_batch::{self as batch, Found, Operation, Options, Report, Shard, Watch};
use onnxseal_core::{Location, Policy, Progress};
use pyo3::prelude::*;

use crate::calls::{as_dict, checking, protecting, rotating};
use crate::errors::{Result, usage};
use crate::keys::{AudienceArgs, opening};
use crate::keywords::{Keywords, OneOrMore};
use crate::output::output_options;

/// Does an operation on many models; returns the report. `onnxseal.batch` has a function for each
/// operation, which says what arguments it takes.
#[pyfunction(name = "_batch")]
pub fn run_batch<'py>(operation: &str, keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let report = match operation {
        "protect" => {
            let protecting = protecting(&keywords)?;
            let batch = Batch::of(operation, &keywords)?;
            keywords.run(move |progress| {
                let (recipients, mut options) = protecting(progress)?;
                options.policy.allow_unmatched();
                let (recipients, options) = ((&recipients).into(), &options);
                let operation = Operation::Protect {
                    recipients,
                    options,
                };
                batch.run(&operation, progress)
            })
        }
        "unprotect" => {
            let opening = opening(&keywords)?;
            let batch = Batch::of(operation, &keywords)?;
            keywords.run(move |progress| {
                let opened = opening(progress)?;
                let access = opened.access();
                batch.run(&Operation::Unprotect { access }, progress)
            })
        }
        "rekey" => {
            let opening = opening(&keywords)?;
            let recipients: AudienceArgs = keywords.read("recipients")?;
            let batch = Batch::of(operation, &keywords)?;
            keywords.run(move |progress| {
                let (opened, recipients) = (opening(progress)?, recipients.read()?);
                let (access, recipients) = (opened.access(), (&recipients).into());
                batch.run(&Operation::Rekey { access, recipients }, progress)
            })
        }
        "rotate" => {
            let (opening, rotating) = (opening(&keywords)?, rotating(&keywords)?);
            let batch = Batch::of(operation, &keywords)?;
            keywords.run(move |progress| {
                let (opened, (recipients, mut options)) = (opening(progress)?, rotating(progress)?);
                options.policy.iter_mut().for_each(Policy::allow_unmatched);
                let operation = Operation::Rotate {
                    access: opened.access(),
                    recipients: (&recipients).into(),
                    options: &options,
                };
                batch.run(&operation, progress)
            })
        }
        "verify" => {
            let checking = checking(&keywords)?;
            let batch = Batch::of(operation, &keywords)?;
            keywords.run(move |progress| {
                let mut demands = checking(progress)?;
                demands.policy.iter_mut().for_each(Policy::allow_unmatched);
                let checks = demands.checks()?;
                batch.run(&Operation::Verify { checks }, progress)
            })
        }
        other => Err(usage(format!("there is no operation {other:?}"))),
    };
    as_dict(keywords.py(), &report?)
}

/// The models, and how the batch runs.
struct Batch {
    sources: Vec<Location>,
    lists: Vec<PathBuf>,
    how: Options,
}

impl Batch {
    /// Takes the arguments of all operations. Those of one are taken before: no output takes the place of
    /// files that they name.
    fn of(operation: &str, keywords: &Keywords<'_>) -> Result<Batch> {
        let OneOrMore(sources): OneOrMore<PathBuf> = keywords.get("sources")?;
        let sources = sources.into_iter().map(Location::parse_folder);
        let sources = sources.collect::<std::result::Result<_, _>>()?;
        let lists: Vec<PathBuf> = keywords.get("lists")?;
        let out: Option<PathBuf> = keywords.get("out")?;
        let outputs = output_options(keywords)?;
        let mut how = Options::default();
        how.out = out.map(Location::parse_folder).transpose()?;
        let jobs: Option<NonZeroUsize> = keywords.get("jobs")?;
        how.jobs = jobs.map(NonZeroUsize::get);
        how.memory_bytes = keywords.get("memory")?;
        how.resume = keywords.get("resume")?;
        how.records = keywords.get("records")?;
        how.checksum = keywords.get("checksum")?;
        how.fail_fast = keywords.get("fail_fast")?;
        (how.replace, how.flush) = (outputs.replace, outputs.flush);
        if let Some((i, n)) = keywords.get("shard")? {
            let shard = Shard::new(i, n);
            let shard = shard.ok_or_else(|| usage("shard is (i, n), with i from 0 to n - 1"))?;
            how.shard = Some(shard);
        }
        how.spared = keywords.reads().files;
        how.spared.extend_from_slice(&lists);
        check(&how, operation)?;
        Ok(Batch {
            sources,
            lists,
            how,
        })
    }

    /// Does the operation on all models.
    fn run(&self, operation: &Operation<'_>, progress: &dyn Progress) -> Result<Report> {
        let Batch {
            sources,
            lists,
            how,
        } = self;
        if let Some(out) = &how.out {
            batch::check_sources(sources, out)?;
        }
        let found = batch::discover(sources, lists)?;
        let mut report = batch::run(found, operation, how, &All(progress))?;
        match report.sync_error.take() {
            Some(error) => Err(error.into()),
            None => Ok(report),
        }
    }
}

/// Refuses options that contradict each other.
fn check(how: &Options, operation: &str) -> Result<()> {
    if how.resume && !how.records {
        return Err(usage(
            "records say what an earlier run did: leave out resume or records",
        ));
    }
    let is_of_outputs = how.resume || how.checksum || !how.records;
    if how.out.is_none() && operation != "verify" && is_of_outputs {
        return Err(usage(
            "resume, records and checksum are for outputs in a folder: give out too, or leave them out",
        ));
    }
    Ok(())
}

/// The progress of all models together.
struct All<'p>(&'p dyn Progress);

impl Watch for All<'_> {
    fn begin(&self, _: usize, bytes: u64) {
        self.0.begin(bytes);
    }

    fn model<'w>(&'w self, _: &Found, bytes: u64) -> Box<dyn Progress + 'w> {
        Box::new(One {
            all: self.0,
            left: AtomicU64::new(bytes),
        })
    }

    fn stops(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// The progress of one model, in bytes of its files.
struct One<'p> {
    all: &'p dyn Progress,
    left: AtomicU64,
}

impl Progress for One<'_> {
    fn advance(&self, bytes: u64) {
        let take = |left: u64| Some(left.saturating_sub(bytes));
        let left = (self.left).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        self.all.advance(bytes.min(left.unwrap_or_default()));
    }

    fn is_cancelled(&self) -> bool {
        self.all.is_cancelled()
    }
}

impl Drop for One<'_> {
    /// A model that failed, or was done before, has been dealt with too.
    fn drop(&mut self) {
        self.all.advance(*self.left.get_mut());
    }
}
