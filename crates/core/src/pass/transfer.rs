//! One pass from files to files: it reads, changes and writes every chunk.

use std::path::Path;
use std::sync::Mutex;

use onnxseal_onnx::edit::Edits;
use onnxseal_store::parallel::lock;
use onnxseal_store::{Input, Progress, Stamp, reflink, zeros};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::spans::SpanSet;
use crate::pass::chunks::{self, Chunk, Tools};
use crate::pass::digest::Digester;
use crate::pass::outputs::Outputs;
use crate::pass::publish::{Made, PublishHook};
use crate::pass::states::{FileState, FileStates, Volume};

pub(crate) struct Transfer<'a> {
    layout: &'a Manifest,
    inputs: Vec<&'a Input>,
    outputs: &'a Outputs<'a>,
    /// The bytes to change, for each output that began as a clone of its input.
    cloned: Vec<Option<&'a SpanSet>>,
    /// Whether the hook wants digests of all inputs and outputs.
    digests: bool,
    input: Digester<'a>,
    output: Digester<'a>,
    /// The edits that give the model file the original's names, once all of it is in memory.
    restoring: Option<(&'a Edits, Mutex<Zeroizing<Vec<u8>>>)>,
}

impl<'a> Transfer<'a> {
    /// Prepares a pass from `inputs` to `outputs`, the files of `layout`. It computes digests if the hook
    /// wants them.
    pub(crate) fn new<'i: 'a>(
        layout: &'a Manifest,
        inputs: impl Iterator<Item = &'i Input>,
        outputs: &'a Outputs<'a>,
    ) -> Transfer<'a> {
        let digests = outputs.hook.is_some_and(PublishHook::wants_digests);
        Transfer {
            layout,
            inputs: inputs.map(|input| input as &'a Input).collect(),
            outputs,
            cloned: vec![None; layout.files().len()],
            digests,
            input: Digester::new(layout, digests),
            output: Digester::new(layout, digests),
            restoring: None,
        }
    }

    /// Restores the original's names, if the layout says how.
    pub(crate) fn restore(&mut self) -> Result<()> {
        let Some(original) = &self.layout.original else {
            return Ok(());
        };
        let path = (self.inputs.first()).map_or(Path::new(""), |model| &model.path);
        let model = Zeroizing::new(zeros(self.layout.model_bytes(), path)?);
        self.restoring = Some((original, Mutex::new(model)));
        Ok(())
    }

    /// Makes each output a clone of its input, if that saves time. The work may then change only
    /// the bytes in `changed`.
    pub(crate) fn clone_files(&mut self, changed: &'a [SpanSet]) {
        let files = self.inputs.iter().zip(&self.outputs.files).zip(changed);
        self.cloned = files
            .map(|((input, output), changed)| {
                let ranges = changed.iter().map(|span| span.start..span.end());
                reflink::try_clone(&**output, input, ranges).then_some(changed)
            })
            .collect();
    }

    /// Reads every chunk, calls `work` to change it with the next of `items`, and writes it.
    ///
    /// Publish the outputs only if this succeeds.
    pub(crate) fn run<P: Send>(
        &self,
        items: impl Iterator<Item = P> + Send,
        progress: &dyn Progress,
        work: impl Fn(&Chunk, &mut [u8], &mut Tools, P) -> Result<()> + Sync,
    ) -> Result<()> {
        self.reserve();
        chunks::for_each_read(
            self.outputs.is_remote(),
            self.layout,
            &self.inputs,
            items,
            progress,
            |chunk, bytes, tools, item| {
                self.input.take(chunk, bytes);
                work(chunk, bytes, tools, item)?;
                self.output.take(chunk, bytes);
                self.write(chunk, bytes, tools)
            },
        )
    }

    /// Reserves blocks for the outputs that will be written chunk by chunk.
    fn reserve(&self) {
        let outputs = self.outputs.files.iter().zip(&self.cloned);
        let held = usize::from(self.restoring.is_some());
        for (file, (output, cloned)) in self.layout.files().iter().zip(outputs).skip(held) {
            if cloned.is_none() && file.bytes > self.layout.chunk_bytes() {
                output.reserve(file.bytes);
            }
        }
    }

    pub(crate) fn copy(&self, progress: &dyn Progress) -> Result<()> {
        // A clone has all chunks already.
        if !self.digests && self.cloned.iter().all(Option::is_some) {
            return Ok(());
        }
        self.run(std::iter::repeat(()), progress, |_, _, _, ()| Ok(()))
    }

    fn write(&self, chunk: &Chunk, bytes: &[u8], tools: &mut Tools) -> Result<()> {
        if let Some((_, model)) = self.restoring.as_ref().filter(|_| chunk.file() == 0) {
            let mut model = lock(model);
            let window = chunk.window.start as usize..chunk.window.end() as usize;
            let place = model
                .get_mut(window)
                .ok_or(Error::Internal("a chunk beyond its file"))?;
            place.copy_from_slice(bytes);
            return Ok(());
        }
        let (output, start) = (chunk.file_of(&self.outputs.files)?, chunk.window.start);
        if let Some(Some(changed)) = self.cloned.get(chunk.file()) {
            let (changed, _) = tools.targets(chunk, changed);
            return Ok(reflink::write_changed(&**output, bytes, start, changed)?);
        }
        Ok(output.write_all_at(bytes, start)?)
    }

    /// Ends the pass: fails if an input was written to meanwhile, then calls the hook. All outputs
    /// must be complete. The model file of the inputs ends with `input_tail`, that of the outputs
    /// with `output_tail`. `weights` say how much was planned to be encrypted.
    pub(crate) fn finish(
        self,
        input_tail: &[u8],
        output_tail: &[u8],
        weights: Option<Volume>,
    ) -> Result<()> {
        self.inputs
            .iter()
            .try_for_each(|input| input.check_unchanged())?;
        let mut restored = None;
        if let Some((original, model)) = self.restoring {
            let applied = original.apply(&lock(&model));
            let model = applied.ok_or(Error::Internal("edits beyond their file"))?;
            self.outputs.write_model(&model)?;
            restored = Some(model);
        }
        let Some(hook) = self.outputs.hook else {
            return Ok(());
        };
        let mut files = FileStates {
            input: self.input.finish(input_tail)?,
            output: self.output.finish(output_tail)?,
        };
        // So far the states describe the model with its new names; the record is about the files.
        if let Some(restored) = &restored {
            let (len, digest) = (restored.len(), self.digests.then(|| blake3::hash(restored)));
            use_original(&mut files.output, self.layout, len as u64, digest);
        }
        if let Some(original) = self.inputs.first().and_then(|model| model.before_edit()) {
            let bytes = self.digests.then(|| original.read_all()).transpose()?;
            let digest = bytes.map(|bytes| blake3::hash(&bytes));
            use_original(&mut files.input, self.layout, original.len, digest);
        }
        for (file, input) in files.input.iter_mut().zip(&self.inputs) {
            file.stamp = input.stamp().filter(Stamp::is_settled);
        }
        for (file, output) in files.output.iter_mut().zip(&self.outputs.files) {
            file.stamp = output.stamp()?;
        }
        hook.publish(&Made { files, weights })
            .map_err(Error::Refused)
    }
}

/// Gives the states of the files of `layout` the original's paths, and the model file the length
/// and the digest of the original.
fn use_original(
    files: &mut [FileState],
    layout: &Manifest,
    bytes: u64,
    digest: Option<blake3::Hash>,
) {
    for (state, file) in files.iter_mut().zip(layout.original_files()) {
        state.path = file.path;
    }
    if let Some(state) = files.first_mut() {
        state.bytes = bytes;
        state.blake3 = digest.map(|digest| digest.to_hex().to_string());
    }
}
