//! Data sets made keyed ones, and back: files of arrays, and folders of images.
//!
//! A file is read, transformed and written in chunks, by all cores; images are worked on one by one. So memory does not
//! grow with a data set. Outputs appear whole or not at all, and what is there is not made again.

mod arrays;
mod bytes;
mod images;
mod sources;
mod zipped;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use onnxseal_data::images::kind;
use onnxseal_store::parallel::{for_each, lock};
use onnxseal_store::{Error as StoreError, OutputOptions, Silent};

use crate::apply::{Scale, ValueType};
use crate::error::{Error, Result};
use crate::key::InputKey;
use bytes::Floats;
use sources::{Task, Tasks};

/// Failures that a report has, at most: a data set may be large, and all of it broken.
pub const MAX_LISTED: usize = 1000;

/// How data sets are made keyed ones.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct EncryptOptions {
    /// Whether keyed data become plain ones instead.
    pub decrypt: bool,
    /// Whether outputs that are there are made again, and whether to wait for the disk.
    pub output: OutputOptions,
    /// Into which type of values FFX makes images, or makes them back; absent, the usual one.
    pub result: Option<ValueType>,
    /// What arrays of floats are.
    pub scale: Scale,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Images that were transformed.
    pub n_images: u64,
    /// Files that were written.
    pub n_written: u64,
    /// Files whose output was there before.
    pub n_skipped: u64,
    /// Files in folders that are no images, and were left out.
    pub n_left_out: u64,
    /// Those of them that are arrays by their names.
    pub n_arrays_left_out: u64,
    /// The lowest and the highest of all floats that were made keyed ones, as they were before.
    pub floats: Option<(f64, f64)>,
    /// Files of which nothing was made.
    pub n_failed: u64,
    /// The first of those, [`MAX_LISTED`] at most.
    pub failed: Vec<Failed>,
    /// The arrays of `.npz` files.
    pub arrays: Vec<ArrayDone>,
}

/// A file of which nothing was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
    /// Whether it is that the key is for images of another kind: other channels, axes or sizes.
    pub is_misfit: bool,
}

/// An array of an `.npz` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayDone {
    /// The file.
    pub path: PathBuf,
    /// What the array is called.
    pub name: String,
    /// Whether it was transformed; the others were copied.
    pub is_transformed: bool,
}

/// Receives the progress of a call, and hears of files that fail. Several threads call it.
///
/// If the call is cancelled it fails with [`Error::Cancelled`]; files that are whole stay.
pub trait Progress: onnxseal_store::Progress {
    /// Of this file nothing will be made; the call goes on.
    fn failed(&self, failed: &Failed) {
        let _ = failed;
    }
}

impl Progress for Silent {}

/// Makes keyed data sets: `.npy`, `.npz`, IDX (gzipped or not), CIFAR-10 and CIFAR-100 binary (`.bin`), PNG and JPEG files,
/// and folders of these images, with all folders below. Names, order and labels stay; images become PNG.
///
/// One file becomes `output`, or goes into it if it is a folder. A folder becomes `output`; of several sources, each gets
/// its name in it.
///
/// Files that cannot be transformed are in the report; the rest goes on.
///
/// # Errors
/// [`Error::Usage`] where sources and output do not go together; [`Error::Store`] where an output cannot be written, or the
/// only one exists; [`Error::Cancelled`].
pub fn encrypt(
    sources: &[PathBuf],
    output: &Path,
    key: &InputKey,
    options: &EncryptOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let tasks = Tasks::new(sources, output)?;
    let run = Run {
        key,
        options,
        progress,
        may_skip: tasks.is_folder && !options.output.replace,
        images: AtomicU64::new(0),
        floats: Floats::default(),
        report: Mutex::default(),
    };
    progress.begin(tasks.bytes());
    // Images side by side; other files one after the other, each by all cores.
    let jobs = tasks.images();
    for_each(
        false,
        u64::MAX,
        jobs,
        images::Worker::default,
        |worker, job| {
            let Some(task) = run.taken(job) else {
                return Ok(());
            };
            let done = run.begin(&task, |task| worker.run(&run, task));
            progress.advance(task.bytes);
            done
        },
    )?;
    for task in tasks.files() {
        run.begin(&task, |task| match extension(&task.source).as_deref() {
            Some("npz") => zipped::run(&run, task),
            _ => arrays::run(&run, task),
        })?;
    }
    let mut report = run.report.into_inner().unwrap_or_default();
    report.n_images = run.images.into_inner();
    report.floats = run.floats.ends();
    Ok(report)
}

/// What all files of a call share.
struct Run<'r> {
    key: &'r InputKey,
    options: &'r EncryptOptions,
    progress: &'r dyn Progress,
    /// Whether files whose output is there are skipped.
    may_skip: bool,
    images: AtomicU64,
    floats: Floats,
    report: Mutex<Report>,
}

/// Why nothing was made of a file.
enum Fault {
    /// It cannot be used; others may.
    Refused(String),
    /// The same, because the key is for images of another kind.
    Misfit(String),
    /// Nothing else can be made either.
    Fatal(Error),
}

impl Fault {
    /// The same fault, of an array in a file.
    fn in_array(self, name: &str) -> Fault {
        match self {
            Fault::Refused(reason) => Fault::Refused(format!("array {name:?}: {reason}")),
            Fault::Misfit(reason) => Fault::Misfit(format!("array {name:?}: {reason}")),
            fatal => fatal,
        }
    }
}

impl Run<'_> {
    /// What a walk through folders found, unless that was nothing to work on.
    fn taken(&self, found: sources::Found) -> Option<Task> {
        match found {
            sources::Found::Image(task) => return Some(task),
            sources::Found::Other { is_array } => {
                let mut report = lock(&self.report);
                report.n_left_out += 1;
                report.n_arrays_left_out += u64::from(is_array);
            }
            sources::Found::Failed(failed) => self.failed(failed),
        }
        None
    }

    fn begin(
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

    fn failed(&self, failed: Failed) {
        self.progress.failed(&failed);
        let mut report = lock(&self.report);
        report.n_failed += 1;
        if report.failed.len() < MAX_LISTED {
            report.failed.push(failed);
        }
    }

    fn go_on(&self) -> Result<()> {
        if self.progress.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    fn advance(&self, bytes: u64) -> Result<()> {
        self.progress.advance(bytes);
        self.go_on()
    }

    fn transformed(&self, n_images: u64) {
        self.images.fetch_add(n_images, Ordering::Relaxed);
    }

    /// The type that values of a type get.
    fn result(&self, of: ValueType) -> std::result::Result<ValueType, Fault> {
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

    /// Checks that values of a type stay of that type, as a format of files needs it.
    fn stays(&self, of: ValueType, format: &str) -> std::result::Result<(), Fault> {
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

fn refused<T>(reason: impl Into<String>) -> std::result::Result<T, Fault> {
    Err(Fault::Refused(reason.into()))
}

fn misfit<T>(reason: impl Into<String>) -> std::result::Result<T, Fault> {
    Err(Fault::Misfit(reason.into()))
}

/// A file that cannot be read.
fn unreadable(error: std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Fault::Refused("it ends too early".into()),
        _ => Fault::Refused(format!("cannot read it: {error}")),
    }
}

fn extension(path: &Path) -> Option<String> {
    let extension = path.extension()?;
    Some(extension.to_string_lossy().to_ascii_lowercase())
}

fn is_image(path: &Path) -> bool {
    kind(path).is_some()
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            // Of the file at hand.
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

#[cfg(test)]
mod tests;
