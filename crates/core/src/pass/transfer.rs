//! One pass from files to files: every chunk is read, worked on and written.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use onnxseal_store::Input;
#[cfg(feature = "protect")]
use onnxseal_store::reflink;
use zeroize::Zeroizing;

use crate::error::{Error, Result, io};
use crate::format::manifest::{Manifest, Original};
#[cfg(feature = "protect")]
use crate::format::spans::SpanSet;
use crate::pass::chunks::{self, Chunk, Tools};
use crate::pass::digest::Digester;
use crate::pass::outputs::Outputs;
use crate::pass::progress::{Digests, FileDigest, Progress, Volume};
use crate::pass::publish::Made;

/// The files that a pass reads, and the files that it writes.
pub(crate) struct Transfer<'a> {
    layout: &'a Manifest,
    inputs: Vec<&'a Input>,
    outputs: &'a Outputs<'a>,
    /// The bytes that are to change, for each output that began as a clone of its input.
    #[cfg(feature = "protect")]
    cloned: Vec<Option<&'a SpanSet>>,
    digesters: Option<(Digester<'a>, Digester<'a>)>,
    restoring: Option<Restoring<'a>>,
}

/// A model file that gets the original's names. All of it must be in memory before it is edited.
struct Restoring<'a> {
    original: &'a Original,
    model: Mutex<Zeroizing<Vec<u8>>>,
}

impl<'a> Transfer<'a> {
    /// A pass from `inputs` to `outputs`, the files of `layout`. It takes digests if there is a hook.
    pub(crate) fn new<'i: 'a>(
        layout: &'a Manifest,
        inputs: impl Iterator<Item = &'i Input>,
        outputs: &'a Outputs<'a>,
    ) -> Transfer<'a> {
        let digesters = outputs
            .has_hook()
            .then(|| (Digester::new(layout), Digester::new(layout)));
        Transfer {
            layout,
            inputs: inputs.map(|input| input as &'a Input).collect(),
            outputs,
            #[cfg(feature = "protect")]
            cloned: vec![None; layout.files.len()],
            digesters,
            restoring: None,
        }
    }

    /// Restores the original's names, if the layout says how.
    pub(crate) fn restore(&mut self) -> Result<()> {
        let Some(original) = &self.layout.original else {
            return Ok(());
        };
        let path = (self.inputs.first()).map_or(Path::new(""), |model| &model.path);
        let no_memory = |error| io("find memory for", path)(std::io::Error::other(error));
        let len = usize::try_from(self.layout.model_bytes()).map_err(std::io::Error::other);
        let len = len.map_err(io("read", path))?;
        let mut model = Zeroizing::new(Vec::new());
        model.try_reserve_exact(len).map_err(no_memory)?;
        model.resize(len, 0);
        let model = Mutex::new(model);
        self.restoring = Some(Restoring { original, model });
        Ok(())
    }

    /// Lets each output begin as a clone of its input, if that pays. Work may change no bytes but
    /// `changed`.
    #[cfg(feature = "protect")]
    pub(crate) fn clone_files(&mut self, changed: &'a [SpanSet]) {
        let files = self.inputs.iter().zip(self.outputs.files()).zip(changed);
        self.cloned = files
            .map(|((input, output), changed)| {
                let ranges = changed.iter().map(|span| span.start..span.end());
                reflink::try_clone(output, input, ranges).then_some(changed)
            })
            .collect();
    }

    /// Reads every chunk, lets `work` change it with the next of `items`, and writes it.
    ///
    /// No output may be published before this has returned well.
    pub(crate) fn run<P: Send>(
        &self,
        items: impl Iterator<Item = P> + Send,
        progress: &dyn Progress,
        work: impl Fn(&Chunk, &mut [u8], &mut Tools, P) -> Result<()> + Sync,
    ) -> Result<()> {
        chunks::for_each_read(
            self.outputs.is_remote(),
            self.layout,
            &self.inputs,
            items,
            progress,
            |chunk, bytes, tools, item| {
                if let Some((input, _)) = &self.digesters {
                    input.take(chunk, bytes);
                }
                work(chunk, bytes, tools, item)?;
                if let Some((_, output)) = &self.digesters {
                    output.take(chunk, bytes);
                }
                self.write(chunk, bytes, tools)
            },
        )
    }

    /// Copies every chunk as it is.
    #[cfg(feature = "protect")]
    pub(crate) fn copy(&self, progress: &dyn Progress) -> Result<()> {
        // A clone has all chunks already.
        if self.digesters.is_none() && self.cloned.iter().all(Option::is_some) {
            return Ok(());
        }
        self.run(std::iter::repeat(()), progress, |_, _, _, ()| Ok(()))
    }

    fn write(&self, chunk: &Chunk, bytes: &[u8], tools: &mut Tools) -> Result<()> {
        if let Some(restoring) = self.restoring.as_ref().filter(|_| chunk.file() == 0) {
            let mut model = restoring
                .model
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let window = chunk.window.start as usize..chunk.window.end() as usize;
            let place = model.get_mut(window);
            let place = place.ok_or(Error::Internal("a chunk beyond its file"))?;
            place.copy_from_slice(bytes);
            return Ok(());
        }
        #[cfg(feature = "protect")]
        if let Some(Some(changed)) = self.cloned.get(chunk.file()) {
            let (changed, _) = tools.targets(chunk, changed);
            let output = chunk.file_of(self.outputs.files())?;
            let start = chunk.window.start;
            return Ok(reflink::write_changed(output, bytes, start, changed)?);
        }
        // Only clones need them.
        let _ = tools;
        self.outputs.write(chunk, bytes)
    }

    /// Ends the pass: fails if an input was written to meanwhile, then calls the hook. All outputs must be
    /// complete. The model file of the inputs ends with `input_tail`, that of the outputs with
    /// `output_tail`. `weights` say how much was planned to be encrypted.
    pub(crate) fn finish(
        self,
        input_tail: &[u8],
        output_tail: &[u8],
        weights: Option<Volume>,
    ) -> Result<()> {
        self.inputs
            .iter()
            .try_for_each(|input| input.check_unchanged())?;
        let restored = self.restoring.as_ref().map(Restoring::model).transpose()?;
        if let Some(restored) = &restored {
            self.outputs.write_model(restored)?;
        }
        let Some((input, output)) = &self.digesters else {
            return Ok(());
        };
        let mut digests = Digests {
            input: input.finish(input_tail)?,
            output: output.finish(output_tail)?,
        };
        // The digests are of the model before it was edited, and the record is of the file.
        if let Some(restored) = &restored {
            use_original(&mut digests.output, self.layout, restored);
        }
        #[cfg(feature = "protect")]
        if let Some(original) = self.inputs.first().and_then(|model| model.before_edit()) {
            use_original(&mut digests.input, self.layout, &original.read_all()?);
        }
        self.outputs.call_hook(&Made { digests, weights })
    }
}

impl Restoring<'_> {
    /// The original model file.
    fn model(&self) -> Result<Zeroizing<Vec<u8>>> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let restored = self.original.edits.apply(&model);
        restored.ok_or(Error::Internal("edits beyond their file"))
    }
}

/// Gives the digests of the files of `layout` the original's paths, and its model file that of `model`.
fn use_original(digests: &mut [FileDigest], layout: &Manifest, model: &[u8]) {
    for (digest, file) in digests.iter_mut().zip(layout.original_files()) {
        digest.path = file.path;
    }
    if let Some(digest) = digests.first_mut() {
        digest.bytes = model.len() as u64;
        digest.blake3 = blake3::hash(model).to_hex().to_string();
    }
}
