//! The shared state of a call on many files, and the faults of one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use onnxseal_store::Error as StoreError;
use onnxseal_store::parallel::lock;

use crate::apply::ValueType;
use crate::data::bytes::Floats;
use crate::data::report::{EncryptOptions, Failed, MAX_LISTED, Progress, Report};
use crate::data::sources::{Found, Task};
use crate::error::{Error, Result};
use crate::key::InputKey;

/// The state that all files of a call share.
pub(super) struct Run<'r> {
    pub(super) key: &'r InputKey,
    pub(super) options: &'r EncryptOptions,
    pub(super) progress: &'r dyn Progress,
    /// Whether to skip files whose output exists.
    pub(super) may_skip: bool,
    pub(super) images: AtomicU64,
    pub(super) floats: Floats,
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
    /// Adds the name of the array in the file to the fault.
    pub(super) fn in_array(self, name: &str) -> Fault {
        match self {
            Fault::Refused(reason) => Fault::Refused(format!("array {name:?}: {reason}")),
            Fault::Misfit(reason) => Fault::Misfit(format!("array {name:?}: {reason}")),
            fatal => fatal,
        }
    }
}

impl Run<'_> {
    /// Returns the task of an entry that a walk through folders found; other entries go into the
    /// report.
    pub(super) fn taken(&self, found: Found) -> Option<Task> {
        match found {
            Found::Image(task) => return Some(task),
            Found::Other { is_array } => {
                let mut report = lock(&self.report);
                report.n_left_out += 1;
                report.n_arrays_left_out += u64::from(is_array);
            }
            Found::Failed(failed) => self.failed(failed),
        }
        None
    }

    pub(super) fn begin(
        &self,
        task: &Task,
        work: impl FnOnce(&Task) -> std::result::Result<(), Fault>,
    ) -> Result<()> {
        self.go_on()?;
        if self.may_skip && task.target.symlink_metadata().is_ok() {
            lock(&self.report).n_skipped += 1;
            return Ok(());
        }
        let failed = |reason, is_misfit| {
            self.failed(Failed {
                path: task.source.clone(),
                reason,
                is_misfit,
            });
        };
        match work(task) {
            Ok(()) => lock(&self.report).n_written += 1,
            Err(Fault::Fatal(error)) => return Err(error),
            Err(Fault::Refused(reason)) => failed(reason, false),
            Err(Fault::Misfit(reason)) => failed(reason, true),
        }
        Ok(())
    }

    pub(super) fn failed(&self, failed: Failed) {
        self.progress.failed(&failed);
        let mut report = lock(&self.report);
        report.n_failed += 1;
        if report.failed.len() < MAX_LISTED {
            report.failed.push(failed);
        }
    }

    pub(super) fn go_on(&self) -> Result<()> {
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
        self.images.fetch_add(n_images, Ordering::Relaxed);
    }

    /// Returns the result's type for values of a type.
    pub(super) fn result(&self, of: ValueType) -> std::result::Result<ValueType, Fault> {
        let possible = if self.options.decrypt {
            self.key.plain_types(of)
        } else {
            self.key.keyed_types(of)
        };
        let names: Vec<String> = possible.iter().map(ValueType::to_string).collect();
        match (self.options.result, possible) {
            (_, []) => refused(format!("the key's transforms take no values of type {of}")),
            (None, [first, ..]) => Ok(*first),
            (Some(wanted), _) if possible.contains(&wanted) => Ok(wanted),
            (Some(wanted), _) => refused(format!(
                "values of type {of} become {}, not {wanted}",
                names.join(" or ")
            )),
        }
    }

    /// Checks that values keep their type, as a file format demands.
    pub(super) fn stays(&self, of: ValueType, format: &str) -> std::result::Result<(), Fault> {
        let possible = if self.options.decrypt {
            self.key.plain_types(of)
        } else {
            self.key.keyed_types(of)
        };
        if possible.contains(&of) {
            return Ok(());
        }
        let names: Vec<&str> = self
            .key
            .spec()
            .transforms
            .iter()
            .map(|t| t.name())
            .collect();
        refused(format!(
            "{format} cannot hold what {} makes of images; .npy and .npz can, as {}",
            names.join(", "),
            match possible {
                [] => "floats".to_owned(),
                types => {
                    let names: Vec<String> = types.iter().map(ValueType::to_string).collect();
                    names.join(" or ")
                }
            }
        ))
    }
}

pub(super) fn refused<T>(reason: impl Into<String>) -> std::result::Result<T, Fault> {
    Err(Fault::Refused(reason.into()))
}

pub(super) fn misfit<T>(reason: impl Into<String>) -> std::result::Result<T, Fault> {
    Err(Fault::Misfit(reason.into()))
}

/// Makes the fault for a file that cannot be read.
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
