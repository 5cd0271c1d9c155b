//! The chunks into which the files of a model are cut.

use std::ops::Range;
use std::sync::OnceLock;

use onnxseal_crypto::{ChunkId, Scratch, TAG_BYTES};
use onnxseal_onnx::model::Span;
use onnxseal_store::{Input, parallel};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::spans::SpanSet;
use crate::pass::progress::Progress;

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

    /// What `of_files`, one for each file, has for this chunk's.
    pub(crate) fn of<'a, T>(&self, of_files: &'a [T]) -> Result<&'a T> {
        let of_file = of_files.get(self.file());
        of_file.ok_or(Error::Internal("a chunk of a file that is not there"))
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

/// Where in the order of the tags the chunks of each file stand.
pub(crate) struct ChunkIndex(Vec<usize>);

impl ChunkIndex {
    pub(crate) fn new(manifest: &Manifest) -> ChunkIndex {
        let ends = manifest.files.iter().scan(0, |end, file| {
            *end += file.bytes.div_ceil(manifest.chunk) as usize;
            Some(*end)
        });
        ChunkIndex(std::iter::once(0).chain(ends).collect())
    }

    /// The chunks of `file`.
    pub(crate) fn range(&self, file: usize) -> Range<usize> {
        let at = |file: usize| self.0.get(file).copied().unwrap_or_default();
        at(file)..at(file + 1)
    }

    pub(crate) fn of(&self, chunk: &Chunk) -> usize {
        self.range(chunk.file()).start + chunk.id.chunk as usize
    }

    pub(crate) fn n_chunks_of(&self, file: usize) -> u64 {
        self.range(file).len() as u64
    }

    pub(crate) fn n_chunks(&self) -> usize {
        self.0.last().copied().unwrap_or_default()
    }
}

/// What is known of each chunk, which comes to be known in any order.
pub(crate) struct PerChunk<T> {
    index: ChunkIndex,
    values: Vec<OnceLock<T>>,
}

impl<T: Copy> PerChunk<T> {
    pub(crate) fn new(manifest: &Manifest) -> PerChunk<T> {
        let index = ChunkIndex::new(manifest);
        let values = std::iter::repeat_with(OnceLock::new);
        let values = values.take(index.n_chunks()).collect();
        PerChunk { index, values }
    }

    pub(crate) fn index(&self) -> &ChunkIndex {
        &self.index
    }

    /// Takes in the value of `chunk`; each has one.
    pub(crate) fn put(&self, chunk: &Chunk, value: T) {
        if let Some(slot) = self.values.get(self.index.of(chunk)) {
            let _ = slot.set(value);
        }
    }

    /// The values of the chunks at `range`, in the order of their tags.
    pub(crate) fn get(&self, range: Range<usize>) -> Result<Vec<T>> {
        let slots = self.values.get(range).unwrap_or_default();
        let values: Option<Vec<_>> = slots.iter().map(|slot| slot.get().copied()).collect();
        values.ok_or(Error::Internal("a chunk was not digested"))
    }

    /// Those of all chunks.
    pub(crate) fn all(&self) -> Result<Vec<T>> {
        self.get(0..self.values.len())
    }
}

/// Calls `work` for every chunk, on several threads, with the next of `places`.
pub(crate) fn for_each<P: Send>(
    is_remote: bool,
    manifest: &Manifest,
    places: impl Iterator<Item = P> + Send,
    progress: &dyn Progress,
    work: impl Fn(&mut Workspace, &Chunk, P) -> Result<()> + Sync,
) -> Result<()> {
    progress.begin(manifest.total_bytes());
    let jobs = chunks(manifest).zip(places);
    let n_chunks = manifest.n_chunks();
    parallel::for_each(
        is_remote,
        n_chunks,
        jobs,
        Workspace::new,
        |workspace, (chunk, place)| {
            work(workspace, &chunk, place)?;
            progress.advance(chunk.window.len);
            match progress.is_cancelled() {
                true => Err(Error::Cancelled),
                false => Ok(()),
            }
        },
    )
}

/// Calls `work` for every chunk, as it is read from the `inputs`, the files of `manifest`; where they
/// or what is written are behind a network it `is_remote`.
pub(crate) fn for_each_read<P: Send>(
    is_remote: bool,
    manifest: &Manifest,
    inputs: &[&Input],
    places: impl Iterator<Item = P> + Send,
    progress: &dyn Progress,
    work: impl Fn(&Chunk, &mut [u8], &mut Tools, P) -> Result<()> + Sync,
) -> Result<()> {
    let is_remote = is_remote || inputs.iter().any(|input| input.is_remote());
    for_each(
        is_remote,
        manifest,
        places,
        progress,
        |workspace, chunk, place| {
            let (bytes, tools) = workspace.room(chunk);
            chunk.of(inputs)?.read_exact_at(bytes, chunk.window.start)?;
            work(chunk, bytes, tools, place)
        },
    )
}

/// The tags as `places` of [`for_each`].
pub(crate) fn tags(tags: &[u8]) -> impl Iterator<Item = &[u8; TAG_BYTES]> + Send {
    let (tags, _) = tags.as_chunks();
    tags.iter()
}

/// What a thread needs to work on one chunk after the other.
pub(crate) struct Workspace {
    bytes: Zeroizing<Vec<u8>>,
    pub(crate) tools: Tools,
}

/// What sealing and opening need beside a chunk's bytes.
#[derive(Default)]
pub(crate) struct Tools {
    targets: Vec<Range<usize>>,
    scratch: Scratch,
}

impl Workspace {
    fn new() -> Workspace {
        Workspace {
            bytes: Zeroizing::new(Vec::new()),
            tools: Tools::default(),
        }
    }

    /// Room for a chunk's bytes.
    pub(crate) fn room(&mut self, chunk: &Chunk) -> (&mut [u8], &mut Tools) {
        let len = chunk.window.len as usize;
        if self.bytes.len() < len {
            // Not resized: that could leave plaintext behind.
            self.bytes = Zeroizing::new(vec![0; len]);
        }
        (&mut self.bytes[..len], &mut self.tools)
    }
}

impl Tools {
    /// The targets of a chunk, taken from those of its whole file, and the cipher's scratch memory.
    pub(crate) fn targets(
        &mut self,
        chunk: &Chunk,
        of_file: &SpanSet,
    ) -> (&[Range<usize>], &mut Scratch) {
        of_file.within(chunk.window, &mut self.targets);
        (&self.targets, &mut self.scratch)
    }
}
