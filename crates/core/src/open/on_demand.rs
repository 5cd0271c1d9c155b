//! The files of a protected model in memory, whose chunks are opened when they are touched.

use std::fs::File;
use std::ops::Range;

use onnxseal_onnx::model::Span;
use onnxseal_store::Input;
use onnxseal_store::on_demand::{self, Fill, OnDemand, Unit};

use crate::error::{Error, Result, io};
use crate::open::protected::Unlocked;
use crate::pass::chunks::{self, Chunk, ChunkIndex, Tools};

/// Smaller tensors are opened and given back together.
const UNIT_BYTES: usize = 4 << 20;

/// The most files of a model that stay open for as long as its memory is used.
const MAX_FILES: usize = 32;

/// A part of a file that a reader will go through, such as a tensor.
#[derive(Clone, Debug)]
pub struct Passage {
    /// Index of the file: 0 for the model file, then the external files.
    pub file: usize,
    /// Its bytes in the file.
    pub bytes: Range<usize>,
    /// Whether they are needed after the reader has gone through all passages.
    pub is_kept: bool,
}

/// All files, each from the start of a page.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) memory: OnDemand<Opener>,
    /// Where each file lies in memory.
    places: Vec<Range<usize>>,
}

pub(crate) struct Opener {
    pub(crate) unlocked: Unlocked,
    chunks: Vec<Chunk>,
}

/// Returns why the chunks of a model cannot be opened when they are touched, or `None`.
pub(crate) fn obstacle(unlocked: &Unlocked, min_bytes: u64) -> Option<String> {
    if unlocked.manifest().total_bytes() < min_bytes {
        return Some("the model is small".to_owned());
    }
    if unlocked.is_remote() {
        // What is given back would be fetched again.
        return Some("the model is in an object store".to_owned());
    }
    if unlocked.manifest().files().len() > MAX_FILES {
        return Some(format!("the model has more than {MAX_FILES} files"));
    }
    let page_bytes = on_demand::page_bytes() as u64;
    if !unlocked.manifest().chunk_bytes().is_multiple_of(page_bytes) {
        return Some("the model's chunks are smaller than a page of memory".to_owned());
    }
    let tried = on_demand::try_on_demand();
    tried.err().map(|error| format!("userfaultfd: {error}"))
}

impl Files {
    /// Reserves memory for the files of `unlocked`, whose signature has been checked.
    pub(crate) fn new(unlocked: Unlocked) -> Result<Files> {
        let manifest = unlocked.manifest();
        let chunks: Vec<Chunk> = chunks::chunks(manifest).collect();
        let (mut places, mut end) = (Vec::new(), 0_usize);
        let path = unlocked.path().to_owned();
        let no_memory = || io("find memory for", &path)(std::io::ErrorKind::OutOfMemory.into());
        for file in manifest.files() {
            let len = usize::try_from(file.bytes).map_err(|_| no_memory())?;
            let start = end;
            end = start.checked_add(len).ok_or_else(no_memory)?;
            places.push(start..end);
            end = (end.checked_next_multiple_of(on_demand::page_bytes())).ok_or_else(no_memory)?;
        }
        let blocks = chunks.iter().map(|chunk| {
            let place = places.get(chunk.file()).map_or(0, |place| place.start);
            place + chunk.window.start as usize..place + chunk.window.end() as usize
        });
        let blocks = blocks.collect();
        let memory = OnDemand::new(Opener { unlocked, chunks }, blocks);
        Ok(Files {
            memory: memory.map_err(io("find memory for", &path))?,
            places,
        })
    }

    pub(crate) fn open_within(&self, parts: &[Span]) {
        let end = self.places.first().map_or(0, |place| place.end);
        let ranges = (parts.iter()).map(|part| part.start as usize..end.min(part.end() as usize));
        self.memory.fill_within(ranges);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.memory.bytes();
        let file = |place: &Range<usize>| bytes.get(place.clone()).unwrap_or_default();
        self.places.iter().map(file)
    }

    /// Returns the chunks of `passages`: a unit for each long one, or for several short ones. Of the
    /// units that share a chunk, the first two have it.
    pub(crate) fn units(&self, passages: &[Passage]) -> Vec<Unit> {
        let manifest = self.memory.filler().unlocked.manifest();
        let (index, chunk_bytes) = (ChunkIndex::new(manifest), manifest.chunk_bytes() as usize);
        let mut units: Vec<Unit> = Vec::new();
        // The units that have each chunk, counted from 1.
        let mut taken = vec![[0; 2]; index.n_chunks()];
        let mut n_bytes = 0;
        for passage in passages {
            let (bytes, is_kept) = (&passage.bytes, passage.is_kept);
            let before = index.range(passage.file).start;
            let chunks = bytes.start / chunk_bytes..bytes.end.div_ceil(chunk_bytes);
            n_bytes += bytes.len();
            let joins = |unit: &Unit| unit.is_kept == is_kept && n_bytes <= UNIT_BYTES;
            if !units.last().is_some_and(joins) {
                n_bytes = bytes.len();
                units.push(Unit {
                    blocks: Vec::new(),
                    is_kept,
                });
            }
            let number = units.len();
            let blocks = chunks.map(|chunk| before + chunk).filter(|chunk| {
                let of_chunk = taken.get_mut(*chunk);
                of_chunk.is_some_and(|[first, second]| match (*first, *second) {
                    (0, _) => std::mem::replace(first, number) == 0,
                    (first, 0) if first != number => std::mem::replace(second, number) == 0,
                    _ => false,
                })
            });
            if let Some(unit) = units.last_mut() {
                unit.blocks.extend(blocks);
            }
        }
        units.retain(|unit| !unit.blocks.is_empty());
        units
    }
}

impl Fill for Opener {
    type Tools = Tools;
    type Error = Error;

    fn fill(&self, index: usize, bytes: &mut [u8], tools: &mut Tools) -> Result<()> {
        let absent = || Error::Internal("a chunk that is not there");
        let chunk = self.chunks.get(index).ok_or_else(absent)?;
        let tag = self.unlocked.tags().nth(index).ok_or_else(absent)?;
        self.unlocked.read_chunk(chunk, bytes, tag, tools)
    }

    fn files(&self) -> Vec<&File> {
        self.unlocked.files().filter_map(Input::held).collect()
    }

    fn refused(&self, source: std::io::Error) -> Error {
        io("decrypt", self.unlocked.path())(source)
    }

    fn lost(&self, index: usize) -> Error {
        match self.chunks.get(index) {
            Some(chunk) => self.unlocked.changed(chunk),
            None => Error::Internal("a chunk that is not there"),
        }
    }
}
