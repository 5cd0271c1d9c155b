//! Computes the energy of every subsequence that a plan may choose, from chunks in any order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use onnxseal_onnx::model::{Model, Span, Tensor};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_plan::{Scores, Wanted, energy, normalise};
use onnxseal_store::{Input, Progress, parallel::lock};
use zeroize::Zeroizing;

use crate::error::{Error, Result, metadata};
use crate::format::manifest::tensor::Place;
use crate::format::manifest::{File, Manifest};
use crate::format::spans;
use crate::pass::chunks::{self, Chunk, ChunkIndex};

/// Scores the tensors of `model`, which is located in the first of `inputs`; the others are its
/// external files. `files` describes all inputs.
pub(crate) fn score_files(
    model: &Model<'_>,
    files: &[File],
    inputs: &[&Input],
    wanted: &[Wanted],
    progress: &dyn Progress,
) -> Result<Scores> {
    let layout = Manifest::layout(files.to_vec())?;
    let path = inputs.first().map_or(Path::new(""), |input| &input.path);
    let scorer = Scorer::new(path, &layout, model, wanted)?;
    chunks::read_all(&layout, inputs, &Unseen(progress), |chunk, bytes| {
        scorer.take(chunk, bytes);
        Ok(())
    })?;
    Ok(scorer.finish())
}

/// Passes on cancellation but no progress, for a pass whose progress bar belongs to another.
pub(crate) struct Unseen<'a>(pub(crate) &'a dyn Progress);

impl Progress for Unseen<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

pub(crate) struct Scorer {
    index: ChunkIndex,
    tensors: Vec<Scored>,
    /// The tensors with elements in each chunk, by the position of its tag.
    by_chunk: Vec<Vec<u32>>,
    /// The subsequences that lie in two or more chunks.
    cut: Mutex<Cut>,
}

/// The bytes of subsequences, by the number of the tensor and their own.
type Cut = BTreeMap<(u32, u64), Zeroizing<Vec<u8>>>;

struct Scored {
    data_type: DataType,
    wanted: Wanted,
    place: Place,
    /// Bytes of all its elements, with the gaps between them.
    extent: Span,
    /// Bytes from one subsequence to the next.
    step: u64,
    energies: Mutex<Vec<f64>>,
}

impl Scorer {
    pub(crate) fn new(
        path: &Path,
        layout: &Manifest,
        model: &Model<'_>,
        wanted: &[Wanted],
    ) -> Result<Scorer> {
        let index = ChunkIndex::new(layout);
        let mut by_chunk = vec![Vec::new(); index.n_chunks()];
        let mut tensors = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let tensor = model.tensors.get(wanted.tensor.index());
            let scored = tensor.and_then(|tensor| Scored::new(tensor, *wanted));
            let scored = scored.ok_or(Error::Internal("the plan is not of this model"))?;
            let file = layout.files().get(scored.place.file as usize);
            let end = scored.extent.start.checked_add(scored.extent.len);
            if end.is_none() || end > file.map(|file| file.bytes) {
                let reason = "a tensor of the graph reaches past its file";
                return Err(metadata(path)(reason.into()));
            }
            let first = index.range(scored.place.file as usize).start;
            let chunk = |at: u64| first + (at / layout.chunk_bytes()) as usize;
            let last = scored.extent.end().saturating_sub(1);
            for tensors_of in &mut by_chunk[chunk(scored.extent.start)..=chunk(last)] {
                tensors_of.push(tensors.len() as u32);
            }
            tensors.push(scored);
        }
        Ok(Scorer {
            index,
            tensors,
            by_chunk,
            cut: Mutex::default(),
        })
    }

    /// Takes in a chunk. Each chunk is given once.
    pub(crate) fn take(&self, chunk: &Chunk, bytes: &[u8]) {
        for &number in &self.by_chunk[self.index.of(chunk)] {
            let tensor = &self.tensors[number as usize];
            let window = chunk.window;
            let part = |span: Span| {
                let within = spans::part(span, window);
                within.and_then(|part| bytes.get(part)).unwrap_or_default()
            };
            // Subsequences that lie wholly in the chunk; `to` is the first after them.
            let from = window
                .start
                .saturating_sub(tensor.extent.start)
                .div_ceil(tensor.step);
            let to = if window.end() >= tensor.extent.end() {
                tensor.wanted.n
            } else {
                window.end().saturating_sub(tensor.extent.start) / tensor.step
            };
            if from < to {
                let span = Span {
                    start: tensor.unit(from).start,
                    len: tensor.unit(to - 1).end() - tensor.unit(from).start,
                };
                tensor.add(from, part(span));
            }
            // One subsequence may begin before the chunk and one may end after it, possibly the
            // same.
            let mut cut = vec![
                from.checked_sub(1),
                (from <= to && to < tensor.wanted.n).then_some(to),
            ];
            cut.dedup();
            for unit in cut.into_iter().flatten() {
                let span = tensor.unit(unit);
                let piece = part(span);
                if piece.is_empty() {
                    continue;
                }
                let mut cut = lock(&self.cut);
                let bytes = cut.entry((number, unit));
                let bytes = bytes.or_insert_with(|| Zeroizing::new(vec![0; span.len as usize]));
                let start = window.start.saturating_sub(span.start) as usize;
                bytes[start..start + piece.len()].copy_from_slice(piece);
            }
        }
    }

    /// The scores, in the order of the tensors wanted.
    pub(crate) fn finish(self) -> Scores {
        for ((number, unit), bytes) in std::mem::take(&mut *lock(&self.cut)) {
            self.tensors[number as usize].add(unit, &bytes);
        }
        let energies = self.tensors.into_iter().map(|tensor| {
            let mut energies = std::mem::take(&mut *lock(&tensor.energies));
            normalise(&mut energies);
            energies
        });
        energies.collect()
    }
}

impl Scored {
    /// Returns `None` if the elements of `tensor` cannot be replaced.
    fn new(tensor: &Tensor<'_>, wanted: Wanted) -> Option<Scored> {
        let place = Place::of(tensor)?;
        Some(Scored {
            data_type: tensor.data_type,
            wanted,
            place,
            extent: place.extent(tensor.n_elements),
            step: place.step(wanted.unit_elements).max(1),
            energies: Mutex::new(vec![0.0; wanted.n as usize]),
        })
    }

    fn unit(&self, unit: u64) -> Span {
        let start = self.extent.start + unit * self.step;
        let end = (start + self.step).min(self.extent.end());
        Span {
            start,
            len: end.saturating_sub(start),
        }
    }

    /// Takes in the bytes of subsequences, of which `first` is the first.
    fn add(&self, first: u64, bytes: &[u8]) {
        let unit_elements = self.wanted.unit_elements;
        let energies = match self.place.stride {
            None => energy(bytes, self.data_type, unit_elements),
            Some(stride) => {
                let width = self.place.element_bits as usize / 8;
                let elements = bytes.chunks(stride as usize);
                let elements = elements.filter_map(|element| element.get(..width));
                let dense: Zeroizing<Vec<u8>> =
                    Zeroizing::new(elements.flatten().copied().collect());
                energy(&dense, self.data_type, unit_elements)
            }
        };
        let mut places = lock(&self.energies);
        for (place, energy) in places.iter_mut().skip(first as usize).zip(energies) {
            *place = energy;
        }
    }
}
