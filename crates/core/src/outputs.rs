//! All files of a model, written together.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::chunks::Chunk;
use crate::error::{Error, Result};
use crate::input::Input;
use crate::manifest::File;
use crate::output::Output;
use crate::protected::folder_of;

/// How outputs come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// Whether existing files may be replaced.
    pub replace: bool,
    /// Whether to wait until the output is on the disk before it gets its name. Without, a call
    /// takes about half the time, and after a power loss the output may be there in part.
    pub sync: bool,
}

impl Default for OutputOptions {
    /// Replaces nothing, and waits for the disk.
    fn default() -> OutputOptions {
        OutputOptions {
            replace: false,
            sync: true,
        }
    }
}

/// Outputs for the files of a model, in the order of the manifest: the model file first.
pub(crate) struct Outputs {
    files: Vec<Output>,
    paths: Vec<PathBuf>,
    options: OutputOptions,
}

impl Outputs {
    /// Begins the files that will stand at `paths`, in place of `inputs`.
    ///
    /// # Errors
    /// [`Error::OutputExists`] unless `options.replace`.
    pub(crate) fn create<'a>(
        paths: Vec<PathBuf>,
        inputs: impl Iterator<Item = &'a Input>,
        options: OutputOptions,
    ) -> Result<Outputs> {
        let files = Vec::new();
        let mut outputs = Outputs {
            files,
            paths,
            options,
        };
        for (path, input) in outputs.paths.iter().zip(inputs) {
            let output = Output::create(path, input, options.replace)?;
            outputs.files.push(output);
        }
        Ok(outputs)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Output> {
        self.files.iter()
    }

    /// The output of the model file.
    pub(crate) fn model(&self) -> Result<&Output> {
        self.file(0)
    }

    /// Writes a chunk, which differs from the input's in `changed` alone.
    pub(crate) fn write_chunk(
        &self,
        chunk: &Chunk,
        bytes: &[u8],
        changed: &[Range<usize>],
    ) -> Result<()> {
        let file = self.file(chunk.file())?;
        file.write_chunk(bytes, chunk.window.start, changed)
    }

    /// Gives all files their names, the model file last: while it is absent, so is the model.
    pub(crate) fn publish(mut self) -> Result<()> {
        if self.options.sync {
            self.files.iter().try_for_each(Output::sync)?;
        }
        let mut published = self.paths.len();
        while let Some(output) = self.files.pop() {
            if let Err(error) = output.publish(self.options) {
                if !self.options.replace {
                    let ours = self.paths.iter().skip(published);
                    ours.for_each(|path| drop(fs::remove_file(path)));
                }
                return Err(error);
            }
            published -= 1;
        }
        Ok(())
    }

    fn file(&self, index: usize) -> Result<&Output> {
        let file = self.files.get(index);
        file.ok_or_else(|| Error::Misuse(format!("no file {index}")))
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        // The last first: its folders may lie within those of an earlier one.
        while self.files.pop().is_some() {}
    }
}

/// Where the `files` of a manifest go when the model file goes to `output`: external files keep
/// their relative paths.
///
/// # Errors
/// [`Error::OutputIsInput`] when one of them is one of `inputs`; [`Error::Misuse`] when two are one.
pub(crate) fn paths<'a>(
    output: &Path,
    files: &[File],
    inputs: impl Iterator<Item = &'a Input>,
) -> Result<Vec<PathBuf>> {
    let folder = folder_of(output);
    let external = files.iter().skip(1).map(|file| folder.join(&file.path));
    let paths: Vec<PathBuf> = std::iter::once(output.to_owned()).chain(external).collect();
    let inputs: Vec<PathBuf> = inputs.filter_map(|i| i.path.canonicalize().ok()).collect();
    for (i, path) in paths.iter().enumerate() {
        if path.canonicalize().is_ok_and(|path| inputs.contains(&path)) {
            return Err(Error::OutputIsInput { path: path.clone() });
        }
        if paths.iter().take(i).any(|earlier| earlier == path) {
            let path = path.display();
            return Err(Error::Misuse(format!(
                "two files of the model would be written to {path}"
            )));
        }
    }
    Ok(paths)
}
