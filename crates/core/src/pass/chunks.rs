//! The chunks into which the files of a model are cut.

use std::ops::Range;
use std::sync::OnceLock;

use onnxseal_crypto::{ChunkId, Error as KeyError, Scratch};
use onnxseal_onnx::model::Span;
use onnxseal_store::{Input, Progress, parallel};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::spans::SpanSet;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    /// Its bytes in its file.
    pub(crate) window: Span,
}

impl Chunk {
    pub(crate) fn file(&self) -> usize {
        self.id.file as usize
    }

    /// Returns the entry for the chunk's file in `files`, which follow the order of the manifest.
    pub(crate) fn file_of<'a, T>(&self, files: &'a [T]) -> Result<&'a T> {
        let file = files.get(self.file());
        file.ok_or(Error::Internal("a chunk of a file that is not there"))
    }
}

/// Every chunk of every file, in the order of their tags.
pub(crate) fn chunks(manifest: &Manifest) -> impl Iterator<Item = Chunk> + Send {
    let size = manifest.chunk_bytes();
    (0..).zip(manifest.files()).flat_map(move |(file, of)| {
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

/// The position of each file's chunks in the order of the tags.
///
/// Holds the first position of every file, then the number of all chunks.
pub(crate) struct ChunkIndex(Vec<usize>);

impl ChunkIndex {
    pub(crate) fn new(manifest: &Manifest) -> ChunkIndex {
        let ends = manifest.files().iter().scan(0, |end, file| {
            *end += file.bytes.div_ceil(manifest.chunk_bytes()) as usize;
            Some(*end)
        });
        ChunkIndex(std::iter::once(0).chain(ends).collect())
    }

    pub(crate) fn range(&self, file: usize) -> Range<usize> {
        let at = |file: usize| self.0.get(file).copied().unwrap_or_default();
        at(file)..at(file + 1)
    }

    pub(crate) fn of(&self, chunk: &Chunk) -> usize {
        self.range(chunk.file()).start + chunk.id.chunk as usize
    }

    pub(crate) fn n_chunks(&self) -> usize {
        self.0.last().copied().unwrap_or_default()
    }
}

/// A value for each chunk. Threads compute the values in any order.
pub(crate) struct PerChunk<T> {
    pub(crate) index: ChunkIndex,
    values: Vec<OnceLock<T>>,
}

impl<T: Copy + PartialEq> PerChunk<T> {
    pub(crate) fn new(manifest: &Manifest) -> PerChunk<T> {
        let index = ChunkIndex::new(manifest);
        let values = (0..index.n_chunks()).map(|_| OnceLock::new()).collect();
        PerChunk { index, values }
    }

    /// Takes in the value of `chunk`. Returns false if the chunk has another value already.
    pub(crate) fn put(&self, chunk: &Chunk, value: T) -> bool {
        let slot = self.values.get(self.index.of(chunk));
        slot.is_some_and(|slot| *slot.get_or_init(|| value) == value)
    }

    /// The values of the chunks at `range`, in the order of their tags.
    pub(crate) fn get(&self, range: Range<usize>) -> Result<Vec<T>> {
        let slots = self.values.get(range).unwrap_or_default();
        let values: Option<Vec<_>> = slots.iter().map(|slot| slot.get().copied()).collect();
        values.ok_or(Error::Internal("a chunk was not digested"))
    }

    pub(crate) fn all(&self) -> Result<Vec<T>> {
        self.get(0..self.values.len())
    }
}

/// Calls `work` for every chunk, on several threads, with the next of `items`. A thread takes
/// `at_once` chunks that follow one another.
///
/// Set `is_remote` if reading or writing waits for a network: the walk then uses more threads.
pub(crate) fn for_each<P: Send>(
    is_remote: bool,
    manifest: &Manifest,
    at_once: u64,
    items: impl Iterator<Item = P> + Send,
    progress: &dyn Progress,
    work: impl Fn(&mut Workspace, &Chunk, P) -> Result<()> + Sync,
) -> Result<()> {
    progress.begin(manifest.total_bytes());
    let mut rest = chunks(manifest).zip(items);
    let jobs = std::iter::from_fn(move || {
        let job: Vec<_> = rest.by_ref().take(at_once as usize).collect();
        (!job.is_empty()).then_some(job)
    });
    let n_jobs = manifest.n_chunks().div_ceil(at_once);
    parallel::for_each(
        is_remote,
        n_jobs,
        jobs,
        Workspace::default,
        |workspace, job| {
            for (chunk, item) in job {
                work(workspace, &chunk, item)?;
                progress.advance(chunk.window.len);
                if progress.is_cancelled() {
                    return Err(Error::Cancelled);
                }
            }
            Ok(())
        },
    )
}

/// Reads every chunk from `inputs`, the files of `manifest`, and calls `work` with its bytes and
/// the next of `items`. Set `is_remote` if writing the outputs waits for a network.
pub(crate) fn for_each_read<P: Send>(
    is_remote: bool,
    manifest: &Manifest,
    inputs: &[&Input],
    items: impl Iterator<Item = P> + Send,
    progress: &dyn Progress,
    work: impl Fn(&Chunk, &mut [u8], &mut Tools, P) -> Result<()> + Sync,
) -> Result<()> {
    let is_remote = is_remote || inputs.iter().any(|input| input.is_remote());
    let work = |workspace: &mut Workspace, chunk: &Chunk, item| {
        let (bytes, tools) = workspace.buffer(chunk)?;
        let input = chunk.file_of(inputs)?;
        input.read_exact_at(bytes, chunk.window.start)?;
        work(chunk, bytes, tools, item)
    };
    for_each(is_remote, manifest, 1, items, progress, work)
}

pub(crate) fn read_all(
    manifest: &Manifest,
    inputs: &[&Input],
    progress: &dyn Progress,
    work: impl Fn(&Chunk, &[u8]) -> Result<()> + Sync,
) -> Result<()> {
    let items = std::iter::repeat(());
    let work = |chunk: &Chunk, bytes: &mut [u8], _: &mut Tools, ()| work(chunk, bytes);
    for_each_read(false, manifest, inputs, items, progress, work)
}

#[derive(Default)]
pub(crate) struct Workspace {
    bytes: Zeroizing<Vec<u8>>,
    pub(crate) tools: Tools,
}

/// Memory that sealing and opening need besides a chunk's bytes.
#[derive(Default)]
pub(crate) struct Tools {
    targets: Vec<Range<usize>>,
    pub(crate) scratch: Scratch,
}

impl Workspace {
    /// Returns a buffer of the chunk's length, and the tools.
    pub(crate) fn buffer(&mut self, chunk: &Chunk) -> Result<(&mut [u8], &mut Tools)> {
        let len_bytes = chunk.window.len as usize;
        if self.bytes.len() < len_bytes {
            // Resizing could leave plaintext in freed memory.
            let mut bytes = Vec::new();
            let reserved = bytes.try_reserve_exact(len_bytes);
            reserved.map_err(|_| Error::Key(KeyError::Memory(len_bytes)))?;
            bytes.resize(len_bytes, 0);
            self.bytes = Zeroizing::new(bytes);
        }
        Ok((&mut self.bytes[..len_bytes], &mut self.tools))
    }
}

impl Tools {
    /// The targets of a chunk, from the `targets` of its whole file, and the cipher's scratch
    /// memory.
    pub(crate) fn targets(
        &mut self,
        chunk: &Chunk,
        targets: &SpanSet,
    ) -> (&[Range<usize>], &mut Scratch) {
        targets.within(chunk.window, &mut self.targets);
        (&self.targets, &mut self.scratch)
    }
}
