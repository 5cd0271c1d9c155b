//! Encrypts, opens or fills the targets of tiers above the first in place, chunk by chunk.

use std::collections::BTreeMap;
use std::ops::Range;

use onnxseal_crypto::{Direction, MIN_SHUFFLED, TierKey};
use onnxseal_onnx::model::Span;

use crate::error::{Error, Result};
use crate::format::manifest::{HigherSpan, Manifest, Mode, Tensor};
use crate::format::spans::SpanSet;
use crate::pass::chunks::{Chunk, Tools};

/// The targets of tiers above the first in all files.
#[derive(Debug, Default)]
pub(crate) struct HigherTargets {
    /// By file, sorted, without overlap.
    files: Vec<Vec<HigherSpan>>,
}

/// The parts of a chunk that belong to tiers above the first. Ranges are relative to its start.
#[derive(Default)]
struct Parts {
    /// Bytes that a tier's stream encrypts.
    streams: Vec<Streamed>,
    /// Whole elements that are shuffled, by tier and tensor.
    shuffled: BTreeMap<(u8, u32), Vec<Range<usize>>>,
}

/// Bytes of one tensor that a tier's stream encrypts.
#[derive(Clone)]
struct Streamed {
    range: Range<usize>,
    tensor: u32,
    tier: u8,
    /// The position of the first byte within its element.
    phase: usize,
}

/// The targets of a model, grouped by the tiers that open them.
pub(crate) struct Targets {
    /// The targets of all tiers, for every file.
    pub(crate) all: Vec<SpanSet>,
    /// The targets of the first tier, for every file, if there are several tiers.
    first: Option<Vec<SpanSet>>,
    pub(crate) higher: HigherTargets,
}

impl Targets {
    pub(crate) fn of(manifest: &Manifest) -> Targets {
        let all = manifest.target_spans();
        let (first, higher) = match manifest.n_tiers() {
            1 => (None, HigherTargets::default()),
            _ => {
                let (first, files) = manifest.tier_spans();
                (Some(first), HigherTargets { files })
            }
        };
        Targets { all, first, higher }
    }

    /// Returns the targets of the first tier, for every file.
    pub(crate) fn first(&self) -> &[SpanSet] {
        self.first.as_ref().unwrap_or(&self.all)
    }
}

impl HigherTargets {
    /// Returns whether there are no such targets, as in a model without tiers.
    fn is_empty(&self) -> bool {
        self.files.iter().all(Vec::is_empty)
    }

    /// Encrypts the targets of the tiers from 2 up. `keys` has the key of each.
    pub(crate) fn seal(
        &self,
        manifest: &Manifest,
        keys: &[TierKey],
        chunk: &Chunk,
        bytes: &mut [u8],
        tools: &mut Tools,
    ) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let parts = self.parts(manifest, chunk)?;
        parts.apply(manifest, keys, chunk, bytes, Direction::Seal, tools)
    }

    /// Opens the targets of the tiers from 2 up, one tier for each of `keys`. Then overwrites the
    /// elements of higher tiers with their fill values.
    pub(crate) fn open(
        &self,
        manifest: &Manifest,
        keys: &[TierKey],
        chunk: &Chunk,
        bytes: &mut [u8],
        tools: &mut Tools,
    ) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let parts = self.parts(manifest, chunk)?;
        parts.apply(manifest, keys, chunk, bytes, Direction::Open, tools)?;
        let tier = keys.len() + 1;
        if tier < manifest.n_tiers().into() {
            parts.fill(manifest, tier, bytes);
        }
        Ok(())
    }

    /// Splits the targets in `chunk` by how they are encrypted.
    fn parts(&self, manifest: &Manifest, chunk: &Chunk) -> Result<Parts> {
        let spans = chunk.file_of(&self.files)?;
        let window = chunk.window;
        let first = spans.partition_point(|higher| higher.span.end() <= window.start);
        let mut parts = Parts::default();
        let within =
            |start: u64, end: u64| (start - window.start) as usize..(end - window.start) as usize;
        for &HigherSpan { span, tensor, tier } in spans.iter().skip(first) {
            let Some(of) = manifest.tensors().get(tensor as usize) else {
                return Err(Error::Internal("a target of no tensor"));
            };
            if span.start >= window.end() {
                break;
            }
            let (start, end) = (span.start.max(window.start), span.end().min(window.end()));
            let width = width(of) as u64;
            let mut stream = |start: u64, end: u64| {
                if start < end {
                    parts.streams.push(Streamed {
                        range: within(start, end),
                        tensor,
                        tier,
                        // A span begins with an element.
                        phase: ((start - span.start) % width) as usize,
                    });
                }
            };
            if of.mode != Mode::Shuffle {
                stream(start, end);
                continue;
            }
            let whole = whole_elements(span, width, start, end);
            stream(start, whole.start.min(end));
            stream(whole.end.max(start), end);
            if whole.start < whole.end {
                let ranges = parts.shuffled.entry((tier, tensor)).or_default();
                ranges.push(within(whole.start, whole.end));
            }
        }
        // With so few elements, brute force could undo the shuffle.
        let few = |(_, tensor): (u8, u32), ranges: &[Range<usize>]| {
            let width = manifest.tensors().get(tensor as usize).map_or(1, width);
            ranges.iter().map(Range::len).sum::<usize>() / width < MIN_SHUFFLED
        };
        let Parts { streams, shuffled } = &mut parts;
        shuffled.retain(|&(tier, tensor), ranges| {
            let is_few = few((tier, tensor), ranges);
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
        Ok(parts)
    }
}

impl Parts {
    /// Encrypts or opens the parts of the tiers from 2 up, one tier for each of `keys`.
    fn apply(
        &self,
        manifest: &Manifest,
        keys: &[TierKey],
        chunk: &Chunk,
        bytes: &mut [u8],
        direction: Direction,
        tools: &mut Tools,
    ) -> Result<()> {
        let scratch = tools.scratch();
        for (key, tier) in keys.iter().zip(2..) {
            let streams = self.streams.iter().filter(|part| part.tier == tier);
            let streams = streams.map(|part| {
                let mask = mask_of(manifest.tensors().get(part.tensor as usize));
                let rotated = u64::from_le_bytes(mask).rotate_right(8 * part.phase as u32);
                (part.range.clone(), rotated.to_le_bytes())
            });
            key.apply_stream(chunk.id, bytes, streams, scratch)?;
        }
        for ((tier, tensor), ranges) in &self.shuffled {
            let Some(key) = keys.get(usize::from(*tier) - 2) else {
                continue;
            };
            let width = manifest.tensors().get(*tensor as usize).map_or(1, width);
            let at = (*tensor, chunk.id.chunk);
            key.shuffle(at, bytes, (ranges, width), direction, scratch)?;
        }
        Ok(())
    }

    /// Overwrites the elements that a reader of `tier` lacks with their fill values.
    fn fill(&self, manifest: &Manifest, tier: usize, bytes: &mut [u8]) {
        for part in &self.streams {
            let tensor = manifest.tensors().get(part.tensor as usize);
            let lacks = usize::from(part.tier) > tier;
            let Some(tensor) = tensor.filter(|tensor| lacks && tensor.mode != Mode::Mask) else {
                continue;
            };
            let element = tensor.fill.bytes();
            let place = &mut bytes[part.range.clone()];
            match element {
                [] => place.fill(0),
                _ => {
                    let values = element.iter().cycle().skip(part.phase);
                    place
                        .iter_mut()
                        .zip(values)
                        .for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// Returns the bytes of the elements of `span` that lie wholly from `start` up to `end`, or an
/// empty range at `start`.
fn whole_elements(span: Span, width: u64, start: u64, end: u64) -> Range<u64> {
    let first = span.start + (start - span.start).next_multiple_of(width);
    let last = span.start + (end - span.start) / width * width;
    if first < last {
        first..last
    } else {
        // No element lies wholly in this chunk.
        start..start
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
fn mask_of(tensor: Option<&Tensor>) -> [u8; 8] {
    let masked = tensor.filter(|tensor| tensor.mode == Mode::Mask);
    let mask = masked.and_then(|tensor| tensor.data_type.mask());
    mask.unwrap_or(u64::MAX).to_le_bytes()
}
