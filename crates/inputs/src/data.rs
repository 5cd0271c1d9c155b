//! Makes keyed data sets from plain ones, and back: files of arrays, and folders of images.
//!
//! All cores transform a file of arrays chunk by chunk, and images one by one, so memory does not
//! grow with a data set. Outputs appear whole or not at all, and existing ones are not made again.

mod arrays;
mod images;
mod report;
mod run;
mod sources;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use onnxseal_data::Format;
use onnxseal_store::Progress;
use onnxseal_store::parallel::for_each;

pub use report::{ArrayDone, EncryptOptions, Failed, MAX_LISTED, Report};

use crate::error::Result;
use crate::key::InputKey;
use run::{Run, refused};
use sources::Sources;

/// Makes keyed data sets: `.npy`, `.npz`, PNG and JPEG files, and folders of these images, with all
/// folders below. Names, order and labels stay; images become PNG.
///
/// One file becomes `output`, or goes into it if it is a folder. A folder becomes `output`. Several
/// sources go into it under their names.
///
/// The report lists files that cannot be transformed; the call goes on with the others. A cancelled
/// call keeps complete files.
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
    let sources = Sources::new(sources, output)?;
    let run = Run {
        key,
        options,
        progress,
        may_skip: sources.is_folder && !options.output.replace,
        report: Mutex::default(),
    };
    progress.begin(sources.bytes());
    // Images in parallel; other files one after the other, each on all cores.
    let images = sources.images(&run);
    for_each(false, u64::MAX, images, Vec::new, |encoded, task| {
        let done = run.begin(&task, |task| images::run(encoded, &run, task));
        progress.advance(task.bytes);
        done
    })?;
    for task in sources.others() {
        run.begin(task, |task| match Format::of(&task.source) {
            Some(Format::Npy) => arrays::npy(&run, task),
            Some(Format::Npz) => arrays::npz(&run, task),
            _ => refused(
                "not a data set by its name (.npz, .npy, .png, .jpg), and no folder: save images of other formats as .npy",
            ),
        })?;
    }
    Ok(run.report.into_inner().unwrap_or_default())
}

#[cfg(test)]
mod tests;
