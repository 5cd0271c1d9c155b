//! Encrypts, opens or fills the targets of tiers above the first in place, chunk by chunk.

use std::collections::BTreeMap;
use std::ops::Range;

use onnxseal_crypto::{Direction, MIN_SHUFFLED, TierKey};
use onnxseal_onnx::model::Span;

use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, Mode, Tensor};
use crate::format::spans::SpanSet;
use crate::pass::chunks::{Chunk, Tools};

/// The parts of a chunk that belong to tiers above the first. Ranges are relative to its start.
#[derive(Default)]
struct Parts<'m> {
    /// Bytes that a tier's stream encrypts.
    streams: Vec<Streamed<'m>>,
    /// Whole elements that are shuffled, by tier and number of the tensor.
    shuffled: BTreeMap<(u8, u32), Shuffled<'m>>,
}

/// Elements of one tensor that change places.
type Shuffled<'m> = (&'m Tensor, Vec<Range<usize>>);

/// Bytes of one tensor that a tier's stream encrypts.
struct Streamed<'m> {
    range: Range<usize>,
    tensor: &'m Tensor,
    tier: u8,
    /// The position of the first byte within its element.
    phase: usize,
}

pub(crate) struct Targets {
    /// The targets of all tiers, for every file.
    pub(crate) all: Vec<SpanSet>,
    /// The targets of the first tier, for every file, if there are several tiers.
    first: Option<Vec<SpanSet>>,
    /// The targets of tiers above the first: by file, sorted, without overlap.
    higher: Vec<Vec<HigherSpan>>,
}

/// Target bytes of a tier above the first.
#[derive(Clone)]
struct HigherSpan {
    span: Span,
    /// Index of the tensor in the manifest.
    tensor: u32,
    tier: u8,
}

impl Targets {
    pub(crate) fn of(manifest: &Manifest) -> Targets {
        let (n_files, is_tiered) = (manifest.files().len(), manifest.n_tiers() > 1);
        let (mut all, mut first) = (vec![Vec::new(); n_files], vec![Vec::new(); n_files]);
        let mut higher = vec![Vec::new(); n_files];
        for (tensor, of) in (0..).zip(manifest.tensors()) {
            // A manifest has the files of its tensors.
            let file = of.file as usize;
            of.spans(|span, tier| {
                all[file].push(span);
                match tier {
                    1 if is_tiered => first[file].push(span),
                    1 => {}
                    _ => higher[file].push(HigherSpan { span, tensor, tier }),
                }
            });
        }
        for higher in &mut higher {
            // One tensor may lie inside another.
            higher.sort_unstable_by_key(|higher| higher.span);
        }
        let unions = |spans: Vec<_>| spans.into_iter().map(SpanSet::union).collect();
        Targets {
            all: unions(all),
            first: is_tiered.then(|| unions(first)),
            higher,
        }
    }

    pub(crate) fn first(&self) -> &[SpanSet] {
        self.first.as_ref().unwrap_or(&self.all)
    }

    /// Encrypts or opens the targets of the tiers from 2 up, one tier for each of `keys`. If it opens, it
    /// then overwrites the elements of higher tiers with their fill values.
    pub(crate) fn apply_higher(
        &self,
        (manifest, chunk): (&Manifest, &Chunk),
        keys: &[TierKey],
        direction: Direction,
        bytes: &mut [u8],
        tools: &mut Tools,
    ) -> Result<()> {
        let parts = self.parts(manifest, chunk)?;
        parts.apply(keys, chunk, bytes, direction, tools)?;
        if let Direction::Open = direction {
            parts.fill(keys.len() + 1, bytes);
        }
        Ok(())
    }

    /// Splits the targets in `chunk` by how they are encrypted.
    fn parts<'m>(&self, manifest: &'m Manifest, chunk: &Chunk) -> Result<Parts<'m>> {
        let mut parts = Parts::default();
        let (targets, window) = (chunk.file_of(&self.higher)?, chunk.window);
        let first = targets.partition_point(|target| target.span.end() <= window.start);
        let targets = targets.iter().skip(first);
        for target in targets.take_while(|target| target.span.start < window.end()) {
            let tensor = manifest.tensors().get(target.tensor as usize);
            let tensor = tensor.ok_or(Error::Internal("a target of no tensor"))?;
            parts.add(target, tensor, window);
        }
        parts.stream_few();
        Ok(parts)
    }
}

impl<'m> Parts<'m> {
    /// Adds the bytes of `target`, elements of `tensor`, that lie in `window`.
    fn add(&mut self, target: &HigherSpan, tensor: &'m Tensor, window: Span) {
        let span = target.span;
        let (start, end) = (span.start.max(window.start), span.end().min(window.end()));
        let width = width(tensor) as u64;
        let within = |start, end| (start - window.start) as usize..(end - window.start) as usize;
        let mut stream = |start, end| {
            if start < end {
                self.streams.push(Streamed {
                    range: within(start, end),
                    tensor,
                    tier: target.tier,
                    // A span begins with an element.
                    phase: ((start - span.start) % width) as usize,
                });
            }
        };
        // The elements that lie wholly in the chunk.
        let first = span.start + (start - span.start).next_multiple_of(width);
        let last = span.start + (end - span.start) / width * width;
        if tensor.mode != Mode::Shuffle || first >= last {
            return stream(start, end);
        }
        stream(start, first);
        stream(last, end);
        let place = self.shuffled.entry((target.tier, target.tensor));
        let (_, ranges) = place.or_insert((tensor, Vec::new()));
        ranges.push(within(first, last));
    }

    /// Streams the elements of a tensor that are so few that brute force could undo a shuffle.
    fn stream_few(&mut self) {
        let streams = &mut self.streams;
        self.shuffled.retain(|&(tier, _), (tensor, ranges)| {
            let n_bytes: usize = ranges.iter().map(Range::len).sum();
            let is_few = n_bytes / width(tensor) < MIN_SHUFFLED;
            if is_few {
                streams.extend(ranges.drain(..).map(|range| Streamed {
                    range,
                    tensor,
                    tier,
                    phase: 0,
                }));
            }
            !is_few
        });
    }

    /// Encrypts or opens the parts of the tiers from 2 up, one tier for each of `keys`.
    fn apply(
        &self,
        keys: &[TierKey],
        chunk: &Chunk,
        bytes: &mut [u8],
        direction: Direction,
        tools: &mut Tools,
    ) -> Result<()> {
        let scratch = &mut tools.scratch;
        for (key, tier) in keys.iter().zip(2..) {
            let streams = self.streams.iter().filter(|part| part.tier == tier);
            let streams = streams.map(|part| {
                let rotated = mask(part.tensor).rotate_right(8 * part.phase as u32);
                (part.range.clone(), rotated.to_le_bytes())
            });
            key.apply_stream(chunk.id, bytes, streams, scratch)?;
        }
        for ((tier, number), (tensor, ranges)) in &self.shuffled {
            if let Some(key) = keys.get(usize::from(*tier) - 2) {
                let at = (*number, chunk.id.chunk);
                key.shuffle(at, bytes, (ranges, width(tensor)), direction, scratch)?;
            }
        }
        Ok(())
    }

    /// Overwrites the elements that a reader of `tier` lacks with their fill values.
    fn fill(&self, tier: usize, bytes: &mut [u8]) {
        let lacks = |part: &&Streamed| usize::from(part.tier) > tier;
        for part in self.streams.iter().filter(lacks) {
            let place = &mut bytes[part.range.clone()];
            match &part.tensor.fill[..] {
                _ if part.tensor.mode == Mode::Mask => {}
                [] => place.fill(0),
                element => {
                    let values = element.iter().cycle().skip(part.phase);
                    (place.iter_mut().zip(values)).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// Returns the bytes per element to shuffle: 1 for elements smaller than a byte, which move as
/// whole bytes.
fn width(tensor: &Tensor) -> usize {
    match tensor.data_type.bits() {
        bits @ (8 | 16 | 32 | 64 | 128) => bits as usize / 8,
        _ => 1,
    }
}

/// Returns the bits of an element to encrypt, repeated to fill 8 bytes.
fn mask(tensor: &Tensor) -> u64 {
    match tensor.mode {
        Mode::Mask => tensor.data_type.mask().unwrap_or(u64::MAX),
        Mode::Bytes | Mode::Shuffle => u64::MAX,
    }
}
