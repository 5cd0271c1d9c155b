//! Makes keyed data sets from plain ones, and back: files of arrays, and folders of images.
//!
//! All cores read, transform and write files of arrays in chunks, and images one by one, so memory
//! does not grow with a data set. Outputs appear whole or not at all, and existing ones are not
//! made again.

mod arrays;
mod bytes;
mod images;
mod report;
mod run;
mod sources;
mod zipped;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use onnxseal_data::Format;
use onnxseal_store::parallel::for_each;

pub use report::{ArrayDone, EncryptOptions, Failed, MAX_LISTED, Progress, Report};

use crate::error::Result;
use crate::key::InputKey;
use bytes::Floats;
use run::Run;
use sources::Tasks;

/// Makes keyed data sets: `.npy`, `.npz`, IDX (gzipped or not), CIFAR-10 and CIFAR-100 binary
/// (`.bin`), PNG and JPEG files, and folders of these images, with all folders below. Names, order
/// and labels stay; images become PNG.
///
/// One file becomes `output`, or goes into it if it is a folder. A folder becomes `output`. Several
/// sources go into it under their names.
///
/// The report lists files that cannot be transformed; the call goes on with the others.
///
/// # Errors
/// [`Error::Usage`](crate::Error::Usage) if sources and output do not match;
/// [`Error::Store`](crate::Error::Store) if an output cannot be written, or the only one exists;
/// [`Error::Cancelled`](crate::Error::Cancelled).
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
    // Images in parallel; other files one after the other, each on all cores.
    let jobs = tasks.images();
    for_each(false, u64::MAX, jobs, Vec::new, |encoded, job| {
        let Some(task) = run.taken(job) else {
            return Ok(());
        };
        let done = run.begin(&task, |task| images::run(encoded, &run, task));
        progress.advance(task.bytes);
        done
    })?;
    for task in tasks.files() {
        run.begin(&task, |task| match Format::of(&task.source) {
            Some(Format::Npz) => zipped::run(&run, task),
            _ => arrays::run(&run, task),
        })?;
    }
    let mut report = run.report.into_inner().unwrap_or_default();
    report.n_images = run.images.into_inner();
    report.floats = run.floats.ends();
    Ok(report)
}

#[cfg(test)]
mod tests;
