//! Opens the files of a model, and writes copies with edits.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use onnxseal_onnx::edit::rename_external;
use onnxseal_onnx::model::{FileId, Span};
use onnxseal_onnx::{Limits, Model, external, locate};
use onnxseal_store::{
    Error as StoreError, Input, Location, Output, OutputOptions, Published, check_no_stream,
    create, parallel, reflink,
};

use crate::changes::{Edit, apply};
use crate::error::{Error, Result};
use crate::graph::Source;

/// Bytes to copy at once if the system cannot copy by itself.
const PIECE: usize = 1 << 18;
/// The unit of the system's own copying, or a multiple of it.
const PAGE: u64 = 4096;

/// The files of a model, open for reading.
#[derive(Debug)]
pub struct Files {
    input: Input,
    model: Vec<u8>,
    /// The normalised locations of external data, as the model states them.
    paths: Vec<String>,
    external: Vec<Input>,
}

/// The bytes of a model file, and of its external data by the model's normalised paths.
pub type Contents = (Vec<u8>, Vec<(String, Vec<u8>)>);

/// The files that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// External data first, the model last.
    pub files: Vec<PathBuf>,
    pub len_bytes: u64,
}

impl Files {
    pub fn open(location: &Location) -> Result<Files> {
        let input = Input::open(location)?;
        let model = input.read_all()?;
        let located = locate(&model, &Limits::default())?;
        if !located.prepacked.is_empty() {
            return Err(Error::Usage(
                "the model has packed copies of weights in its external data, which would stay as they are: save it without them, or take what `protect --repack` and `unprotect` give".into(),
            ));
        }
        let paths = located.external_files.clone();
        drop(located);
        let external = input.open_all_beside(&paths)?;
        Ok(Files {
            input,
            model,
            paths,
            external,
        })
    }

    /// Reads the files with edits, which must be by file and in ascending order.
    pub fn read(&self, edits: &[Edit]) -> Result<Contents> {
        let mut external = Vec::new();
        for (file, (path, input)) in (1..).zip(self.paths.iter().zip(&self.external)) {
            let mut bytes = input.read_all()?;
            if of_file(edits, file).next().is_some() {
                bytes = apply(&bytes, of_file(edits, file))?;
            }
            external.push((path.clone(), bytes));
        }
        Ok((apply(&self.model, of_file(edits, 0))?, external))
    }

    pub fn with<T, E: From<Error>>(
        &self,
        with: impl FnOnce(&Source<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let model = locate(&self.model, &Limits::default()).map_err(Error::from)?;
        self.check_extents(&model)?;
        let read = |location: &str, span: Span| -> Result<Vec<u8>> {
            let position = self.paths.iter().position(|path| path == location);
            let input = position.and_then(|i| self.external.get(i));
            let input = input.ok_or(StoreError::Internal("an external file that is not open"))?;
            // The span lies within the file, so its length fits.
            let mut bytes = vec![0; usize::try_from(span.len).unwrap_or(0)];
            input.read_exact_at(&mut bytes, span.start)?;
            Ok(bytes)
        };
        with(&Source {
            bytes: &self.model,
            model: &model,
            external: &read,
        })
    }

    fn check_extents(&self, model: &Model<'_>) -> Result<()> {
        for tensor in &model.tensors {
            if let onnxseal_onnx::model::Payload::Dense { file, .. } = tensor.payload
                && let Some(index) = (file.0 as usize).checked_sub(1)
                && let Some(input) = self.external.get(index)
            {
                external::check_extent(model, tensor, input.len)?;
            }
        }
        Ok(())
    }

    /// Writes the model and its external data with edits, whole or not at all, the model file last.
    /// Edits must be by file and in ascending order. External data keeps its names, or is named
    /// after the output if these names are those of inputs, and it replaces no file.
    pub fn write(
        &self,
        edits: &[Edit],
        output: &Location,
        mut options: OutputOptions,
    ) -> Result<Written> {
        let new = self.names(output)?;
        if !new.is_empty() {
            options.replace = false;
            check_no_stream(output)?;
        }
        let mut locations = vec![output.clone()];
        let mut outputs = vec![create(output, 0, options.replace, self.input.len)?];
        for path in &new {
            let (location, n_folders) = (output.beside(path), path.matches('/').count());
            outputs.push(create(&location, n_folders, false, self.input.len)?);
            locations.push(location);
        }
        let mut len_bytes = 0;
        for ((file, input), output) in (0u32..).zip(self.inputs()).zip(&outputs) {
            len_bytes += if file == 0 && self.paths != new {
                self.write_renamed(edits, &new, &**output)?
            } else {
                copy(input, &of_file(edits, file).collect::<Vec<_>>(), &**output)?
            };
            input.check_unchanged()?;
        }
        outputs
            .iter()
            .try_for_each(|output| output.finish(options.flush))?;
        let like = self.inputs().map(Input::permitted);
        let mut like = like.collect::<onnxseal_store::Result<Vec<_>>>()?;
        let mut published = Vec::new();
        while let (Some(output), Some(like)) = (outputs.pop(), like.pop()) {
            match output.publish(like, options) {
                Ok(file) => published.push(file),
                Err(error) => {
                    published.into_iter().for_each(Published::remove);
                    // The last first: its folders may lie inside those of an earlier one.
                    while outputs.pop().is_some() {}
                    return Err(error.into());
                }
            }
        }
        Ok(Written {
            files: locations.iter().rev().map(Location::to_name).collect(),
            len_bytes,
        })
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        std::iter::once(&self.input).chain(&self.external)
    }

    /// Returns the paths of external data beside the output.
    fn names(&self, output: &Location) -> Result<Vec<String>> {
        let inputs: HashSet<Location> = self.inputs().filter_map(Input::location).collect();
        let is_input = |location: &Location| {
            location
                .canonical()
                .is_some_and(|found| inputs.contains(&found))
        };
        let refuse = |text: &str| Err(Error::Usage(text.to_owned()));
        if is_input(output) {
            return refuse("the output is a file of the model itself");
        }
        let under = |name: String| match &self.paths[..] {
            [_] => vec![name],
            paths => Vec::from_iter(paths.iter().map(|path| format!("{name}/{path}"))),
        };
        let meets = |paths: &[String]| {
            let mut locations = paths.iter().map(|path| output.beside(path));
            locations.any(|location| location == *output || is_input(&location))
        };
        let mut names = self.paths.clone();
        if meets(&names) {
            let of_output = output.to_name();
            let of_output = of_output.file_name().and_then(|name| name.to_str());
            let free = [".data", ".rewritten.data"].into_iter();
            let mut free = free.filter_map(|end| Some(under(format!("{}{end}", of_output?))));
            let Some(free) = free.find(|names| !meets(names)) else {
                return refuse(
                    "external data would be written over what is read: the output needs another folder",
                );
            };
            names = free;
        }
        let all_plain = names.iter().all(|name| external::check_plain(name).is_ok());
        let distinct: HashSet<&String> = names.iter().collect();
        if !all_plain || distinct.len() < names.len() {
            return refuse(
                "the model's external data has names that are hidden or have control characters",
            );
        }
        Ok(names)
    }

    /// Writes the model file with edits and other paths of external data. Makes it in memory, since
    /// most weights are in other files.
    fn write_renamed(&self, edits: &[Edit], new: &[String], output: &dyn Output) -> Result<u64> {
        let edited = apply(&self.model, of_file(edits, 0))?;
        let names = self.paths.iter().cloned().zip(new.iter().cloned());
        let names: HashMap<String, String> = names.collect();
        let renamed = rename_external(&edited, &names)?;
        let renamed = renamed.apply(&edited);
        let renamed = renamed.ok_or(StoreError::Internal("edits beyond their file"))?;
        for (piece, at) in renamed.chunks(PIECE).zip((0..).step_by(PIECE)) {
            output.write_all_at(piece, at)?;
        }
        Ok(renamed.len() as u64)
    }
}

fn of_file(edits: &[Edit], file: u32) -> impl Iterator<Item = &Edit> {
    edits.iter().filter(move |edit| edit.file == FileId(file))
}

/// Copies a file with edits; returns the length of the copy.
fn copy(input: &Input, edits: &[&Edit], output: &dyn Output) -> Result<u64> {
    let keeps_length = edits
        .iter()
        .all(|edit| edit.text.len() as u64 == edit.taken.len);
    let changed = edits.iter().map(|edit| edit.taken.start..edit.taken.end());
    if keeps_length && reflink::try_clone(output, input, changed) {
        for edit in edits {
            output.write_all_at(&edit.text, edit.taken.start)?;
        }
        return Ok(input.len);
    }
    let (mut from, mut to) = (0, 0);
    for edit in edits {
        to += copy_range(input, from..edit.taken.start, output, to)?;
        output.write_all_at(&edit.text, to)?;
        to += edit.text.len() as u64;
        from = edit.taken.end();
    }
    Ok(to + copy_range(input, from..input.len, output, to)?)
}

/// Copies bytes of a file, and returns how many.
fn copy_range(
    input: &Input,
    range: std::ops::Range<u64>,
    output: &dyn Output,
    at: u64,
) -> Result<u64> {
    let len = range.end.saturating_sub(range.start);
    // With another alignment, the system would copy each page in two parts, twice.
    let is_aligned = range.start % PAGE == at % PAGE;
    if let (Some(from), Some((_, to)), true) = (input.file()?, output.file(), is_aligned) {
        let copied = copy_within_system(&from, range.start, len, to, at);
        let io = |source| StoreError::Io {
            action: "copy",
            path: input.path.clone(),
            source,
        };
        return Ok(copied.map(|()| len).map_err(io)?);
    }
    let n_pieces = len.div_ceil(PIECE as u64);
    let buffer = || vec![0; PIECE.min(usize::try_from(len).unwrap_or(PIECE))];
    let is_remote = input.is_remote() || output.file().is_none();
    let jobs = (0..n_pieces).map(|i| i * PIECE as u64);
    parallel::for_each(
        is_remote,
        n_pieces,
        jobs,
        buffer,
        |buffer, done| -> Result<()> {
            let n = (len - done).min(buffer.len() as u64) as usize;
            let piece = buffer.get_mut(..n).unwrap_or_default();
            input.read_exact_at(piece, range.start + done)?;
            Ok(output.write_all_at(piece, at + done)?)
        },
    )?;
    Ok(len)
}

/// Lets the system copy, if it can do so without passing the bytes through this process.
fn copy_within_system(
    mut from: &File,
    start: u64,
    len: u64,
    mut to: &File,
    at: u64,
) -> std::io::Result<()> {
    from.seek(SeekFrom::Start(start))?;
    to.seek(SeekFrom::Start(at))?;
    match std::io::copy(&mut from.take(len), &mut to)? {
        n if n == len => Ok(()),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}
