//! All files of a model, written together.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::chunks::Chunk;
use crate::error::{Error, Result};
use crate::input::Input;
use crate::manifest::File;
use crate::output::Output;
use crate::protected::folder_of;

/// How outputs come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputOptions {
    /// Whether an existing file may be replaced; never several at once.
    pub replace: bool,
    /// Whether to wait until the output is on the disk before it gets its name. Without, a call
    /// takes about half the time, and after a power loss the output may be there in part; and so,
    /// with `replace`, what it replaced is lost.
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
    /// Begins the files that will stand at `paths`.
    ///
    /// # Errors
    /// [`Error::OutputExists`] unless `options.replace`; [`Error::ReplaceSeveral`] where one of
    /// several exists.
    pub(crate) fn create(paths: Vec<PathBuf>, mut options: OutputOptions) -> Result<Outputs> {
        if options.replace && paths.len() > 1 {
            let exists = |path: &&PathBuf| fs::symlink_metadata(path).is_ok();
            if let Some(path) = paths.iter().find(exists) {
                let path = path.clone();
                return Err(Error::ReplaceSeveral { path });
            }
            // Nor what appears there meanwhile.
            options.replace = false;
        }
        let mut outputs = Outputs {
            files: Vec::new(),
            paths,
            options,
        };
        for path in &outputs.paths {
            let output = Output::create(path, options.replace)?;
            outputs.files.push(output);
        }
        Ok(outputs)
    }

    /// Begins the file that will take the place of `model`, in one step, once it is on the disk.
    #[cfg(feature = "protect")]
    pub(crate) fn in_place(model: &Input) -> Result<Outputs> {
        let options = OutputOptions {
            replace: true,
            ..OutputOptions::default()
        };
        let outputs = Outputs::create(vec![model.path.clone()], options)?;
        for output in &outputs.files {
            output.try_chown(&model.metadata()?);
        }
        Ok(outputs)
    }

    /// The outputs, in the order of the manifest.
    #[cfg(feature = "protect")]
    pub(crate) fn files(&self) -> &[Output] {
        &self.files
    }

    /// Writes a chunk.
    pub(crate) fn write(&self, chunk: &Chunk, bytes: &[u8]) -> Result<()> {
        let file = self.files.get(chunk.file());
        let file = file.ok_or(Error::Internal("a chunk of a file without an output"))?;
        file.write_all_at(bytes, chunk.window.start)
    }

    /// Writes the tail of the model file, whose original has `model_bytes`.
    #[cfg(feature = "protect")]
    pub(crate) fn write_tail(&self, tail: &[u8], model_bytes: u64) -> Result<()> {
        let model = self.files.first();
        let model = model.ok_or(Error::Internal("a model without a file"))?;
        model.write_all_at(tail, model_bytes)?;
        // What began as a clone may have had a longer one.
        model.set_len(model_bytes + tail.len() as u64)
    }

    /// Gives all files the permissions of `inputs`, and their names, the model file last: while it
    /// is absent, so is the model. On failure no name is left behind.
    pub(crate) fn publish<'a>(mut self, inputs: impl Iterator<Item = &'a Input>) -> Result<()> {
        if self.options.sync {
            self.files.iter().try_for_each(Output::sync)?;
        }
        let mut like = inputs.map(Input::metadata).collect::<Result<Vec<_>>>()?;
        let mut published = self.paths.len();
        while let (Some(output), Some(like)) = (self.files.pop(), like.pop()) {
            if let Err(error) = output.publish(&like, self.options) {
                // None of several replaced anything: all of them are ours.
                for path in self.paths.iter().skip(published) {
                    let _ = fs::remove_file(path);
                }
                return Err(error);
            }
            published -= 1;
        }
        Ok(())
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
    let inputs: HashSet<PathBuf> = inputs.filter_map(|i| i.path.canonicalize().ok()).collect();
    let mut seen = HashSet::new();
    for path in &paths {
        if path.canonicalize().is_ok_and(|path| inputs.contains(&path)) {
            return Err(Error::OutputIsInput { path: path.clone() });
        }
        if !seen.insert(path) {
            let path = path.display();
            return Err(Error::Misuse(format!(
                "two files of the model would be written to {path}"
            )));
        }
    }
    Ok(paths)
}
