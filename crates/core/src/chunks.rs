//! The chunks into which the files of a model are cut.

use std::ops::Range;

use onnxseal_crypto::{ChunkId, Scratch};
use onnxseal_onnx::model::Span;
use zeroize::Zeroizing;

use crate::artifact::TAG_BYTES;
use crate::manifest::Manifest;
use crate::spans::SpanSet;

/// One chunk of one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    /// Where it lies in its file.
    pub(crate) window: Span,
}

impl Chunk {
    /// Index of the chunk's file in the manifest.
    pub(crate) fn file(&self) -> usize {
        self.id.file as usize
    }
}

/// Every chunk of every file, in the order of their tags.
pub(crate) fn chunks(manifest: &Manifest) -> impl Iterator<Item = Chunk> + Send {
    let size = manifest.chunk;
    (0..).zip(&manifest.files).flat_map(move |(file, of)| {
        (0..of.bytes.div_ceil(size)).map(move |chunk| {
            let start = chunk * size;
            let window = Span {
                start,
                len: size.min(of.bytes - start),
            };
            Chunk {
                id: ChunkId { file, chunk },
                window,
            }
        })
    })
}

/// Every chunk with its tag.
pub(crate) fn chunks_with_tags<'a>(
    manifest: &'a Manifest,
    tags: &'a [u8],
) -> impl Iterator<Item = (Chunk, &'a [u8; TAG_BYTES])> + Send {
    let (tags, _) = tags.as_chunks();
    chunks(manifest).zip(tags)
}

/// What a thread needs to work on one chunk after the other.
pub(crate) struct Workspace {
    bytes: Zeroizing<Vec<u8>>,
    pub(crate) targets: Vec<Range<usize>>,
    pub(crate) scratch: Scratch,
}

impl Workspace {
    pub(crate) fn new() -> Workspace {
        let bytes = Zeroizing::new(Vec::new());
        Workspace {
            bytes,
            targets: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Room for a chunk's bytes, its targets (taken from `targets`, the set of its whole file) and
    /// the cipher's scratch memory.
    pub(crate) fn prepare(
        &mut self,
        chunk: &Chunk,
        targets: &SpanSet,
    ) -> (&mut [u8], &[Range<usize>], &mut Scratch) {
        let len = chunk.window.len as usize;
        if self.bytes.len() < len {
            // Not resized: that could leave plaintext behind.
            self.bytes = Zeroizing::new(vec![0; len]);
        }
        targets.within(chunk.window, &mut self.targets);
        (&mut self.bytes[..len], &self.targets, &mut self.scratch)
    }
}
