//! One pass from files to files: every chunk is read, worked on and written.

use crate::chunks::{self, Chunk, Tools};
use crate::digest::{Digester, Digests};
use crate::error::{Error, Result};
use crate::input::Input;
use crate::manifest::Manifest;
use crate::outputs::Outputs;
use crate::progress::Progress;
#[cfg(feature = "protect")]
use crate::reflink;
#[cfg(feature = "protect")]
use crate::spans::SpanSet;

/// Files that a pass reads and those that it writes.
pub(crate) struct Transfer<'a> {
    layout: &'a Manifest,
    inputs: Vec<&'a Input>,
    outputs: &'a Outputs,
    /// For outputs that began as clones of their inputs: the bytes that are to change.
    #[cfg(feature = "protect")]
    cloned: Vec<Option<&'a SpanSet>>,
    digesters: Option<(Digester<'a>, Digester<'a>)>,
}

impl<'a> Transfer<'a> {
    /// From `inputs` to `outputs`, the files of `layout`, with digests if `progress` wants them.
    pub(crate) fn new<'i: 'a>(
        layout: &'a Manifest,
        inputs: impl Iterator<Item = &'i Input>,
        outputs: &'a Outputs,
        progress: &dyn Progress,
    ) -> Transfer<'a> {
        let digesters = progress
            .wants_digests()
            .then(|| (Digester::new(layout), Digester::new(layout)));
        Transfer {
            layout,
            inputs: inputs.map(|input| input as &'a Input).collect(),
            outputs,
            #[cfg(feature = "protect")]
            cloned: vec![None; layout.files.len()],
            digesters,
        }
    }

    /// Lets each output begin as a clone of its input, where that pays and work changes no bytes
    /// but `changed`.
    #[cfg(feature = "protect")]
    pub(crate) fn clone_files(&mut self, changed: &'a [SpanSet]) {
        let files = self.inputs.iter().zip(self.outputs.files()).zip(changed);
        self.cloned = files
            .map(|((input, output), changed)| {
                reflink::try_clone(output, input, changed).then_some(changed)
            })
            .collect();
    }

    /// Takes every chunk, with the next of `places`, through `work`.
    ///
    /// Nothing of the outputs may be let out before this returns well.
    pub(crate) fn run<P: Send>(
        &self,
        places: impl Iterator<Item = P> + Send,
        progress: &dyn Progress,
        work: impl Fn(&Chunk, &mut [u8], &mut Tools, P) -> Result<()> + Sync,
    ) -> Result<()> {
        chunks::for_each_read(
            self.outputs.is_remote(),
            self.layout,
            &self.inputs,
            places,
            progress,
            |chunk, bytes, tools, place| {
                if let Some((input, _)) = &self.digesters {
                    input.take(chunk, bytes);
                }
                work(chunk, bytes, tools, place)?;
                if let Some((_, output)) = &self.digesters {
                    output.take(chunk, bytes);
                }
                self.write(chunk, bytes, tools)
            },
        )
    }

    /// Takes every chunk as it is.
    #[cfg(feature = "protect")]
    pub(crate) fn copy(&self, progress: &dyn Progress) -> Result<()> {
        if self.digesters.is_none() && self.cloned.iter().all(Option::is_some) {
            return Ok(());
        }
        let places = std::iter::repeat(());
        self.run(places, progress, |_, _, _, ()| Ok(()))
    }

    fn write(&self, chunk: &Chunk, bytes: &[u8], tools: &mut Tools) -> Result<()> {
        #[cfg(feature = "protect")]
        if let Some(Some(changed)) = self.cloned.get(chunk.file()) {
            let (changed, _) = tools.targets(chunk, changed);
            let output = chunk.of(self.outputs.files())?;
            return reflink::write_changed(output, bytes, chunk.window.start, changed);
        }
        let _ = tools;
        self.outputs.write(chunk, bytes)
    }

    /// Ends the pass: fails if an input was written to meanwhile, then tells `progress` that the
    /// outputs are complete. The model file that was read ends with `input_tail`, the one that was
    /// written with `output_tail`.
    pub(crate) fn finish(
        self,
        input_tail: &[u8],
        output_tail: &[u8],
        progress: &dyn Progress,
    ) -> Result<()> {
        self.inputs
            .iter()
            .try_for_each(|input| input.check_unchanged())?;
        let Some((input, output)) = &self.digesters else {
            return Ok(());
        };
        let digests = Digests {
            input: input.finish(input_tail)?,
            output: output.finish(output_tail)?,
        };
        progress.ready(&digests).map_err(Error::Refused)
    }
}
