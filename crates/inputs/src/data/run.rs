//! The shared state of a call on many files, and the faults of one.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use onnxseal_store::parallel::lock;
use onnxseal_store::{Error as StoreError, Progress};

use crate::apply::{Direction, ValueType, any_of};
use crate::data::report::{EncryptOptions, Failed, MAX_LISTED, Report};
use crate::error::{Error, Result};
use crate::key::InputKey;

#[derive(Clone)]
pub(super) struct Task {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) bytes: u64,
}

/// The state that all files of a call share.
pub(super) struct Run<'r> {
    pub(super) key: &'r InputKey,
    pub(super) options: &'r EncryptOptions,
    pub(super) progress: &'r dyn Progress,
    /// Whether to skip files whose output exists.
    pub(super) may_skip: bool,
    pub(super) report: Mutex<Report>,
}

/// Why a file failed.
pub(super) enum Fault {
    /// The file cannot be used; others may.
    Refused(String),
    /// The key is for images of another kind.
    Misfit(String),
    /// All other files would fail too.
    Fatal(Error),
}

impl Fault {
    pub(super) fn in_array(self, name: &str) -> Fault {
        match self {
            Fault::Refused(reason) => Fault::Refused(format!("array {name:?}: {reason}")),
            Fault::Misfit(reason) => Fault::Misfit(format!("array {name:?}: {reason}")),
            fatal => fatal,
        }
    }
}

impl Run<'_> {
    pub(super) fn direction(&self) -> Direction {
        if self.options.decrypt {
            Direction::Backwards
        } else {
            Direction::Forwards
        }
    }

    pub(super) fn begin(
        &self,
        task: &Task,
        work: impl FnOnce(&Task) -> Result<(), Fault>,
    ) -> Result<()> {
        self.go_on()?;
        if self.may_skip && task.target.symlink_metadata().is_ok() {
            lock(&self.report).n_skipped += 1;
            return Ok(());
        }
        let (reason, is_misfit) = match work(task) {
            Ok(()) => {
                lock(&self.report).n_written += 1;
                return Ok(());
            }
            Err(Fault::Fatal(error)) => return Err(error),
            Err(Fault::Refused(reason)) => (reason, false),
            Err(Fault::Misfit(reason)) => (reason, true),
        };
        self.failed(&task.source, reason, is_misfit);
        Ok(())
    }

    pub(super) fn failed(&self, path: &Path, reason: String, is_misfit: bool) {
        let mut report = lock(&self.report);
        report.n_failed += 1;
        if report.failed.len() < MAX_LISTED {
            report.failed.push(Failed {
                path: path.to_owned(),
                reason,
                is_misfit,
            });
        }
    }

    pub(super) fn left_out(&self, is_array: bool) {
        let mut report = lock(&self.report);
        report.n_left_out += 1;
        report.n_arrays_left_out += u64::from(is_array);
    }

    fn go_on(&self) -> Result<()> {
        if self.progress.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    pub(super) fn advance(&self, bytes: u64) -> Result<()> {
        self.progress.advance(bytes);
        self.go_on()
    }

    pub(super) fn transformed(&self, n_images: u64) {
        lock(&self.report).n_images += n_images;
    }

    /// Widens the range of floats in the report by those of some images.
    pub(super) fn see(&self, values: &[f64]) {
        // Skips NaN.
        let wider = |(low, high): (f64, f64), x: &f64| (low.min(*x), high.max(*x));
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), wider);
        if low <= high {
            let floats = &mut lock(&self.report).floats;
            let (least, most) = floats.unwrap_or((low, high));
            *floats = Some((least.min(low), most.max(high)));
        }
    }

    /// Returns the possible types of results for values of a type, the usual one first.
    pub(super) fn results(&self, of: ValueType) -> &'static [ValueType] {
        if self.options.decrypt {
            self.key.plain_types(of)
        } else {
            self.key.keyed_types(of)
        }
    }

    pub(super) fn result(&self, of: ValueType) -> Result<ValueType, Fault> {
        let possible = self.results(of);
        match (self.options.result, possible) {
            (_, []) => refused(format!("the key's transforms take no values of type {of}")),
            (None, [first, ..]) => Ok(*first),
            (Some(wanted), _) if possible.contains(&wanted) => Ok(wanted),
            (Some(wanted), _) => refused(format!(
                "values of type {of} become {}, not {wanted}",
                any_of(possible)
            )),
        }
    }
}

pub(super) fn refused<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused(reason.into()))
}

pub(super) fn misfit<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Misfit(reason.into()))
}

pub(super) fn unreadable(error: std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Fault::Refused("it ends too early".into()),
        _ => Fault::Refused(format!("cannot read it: {error}")),
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            // A misfit of this file.
            Error::Array { reason } => Fault::Misfit(reason),
            other => Fault::Fatal(other),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Fatal(error.into())
    }
}

impl From<onnxseal_data::Fault> for Fault {
    fn from(error: onnxseal_data::Fault) -> Fault {
        match error {
            onnxseal_data::Fault::Io(error) => unreadable(error),
            other => Fault::Refused(other.to_string()),
        }
    }
}
