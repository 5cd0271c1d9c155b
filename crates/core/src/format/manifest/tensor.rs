//! A tensor in the manifest, and where its bytes lie: subsequences become spans of a file here, and
//! nowhere else.

use std::borrow::Cow;

use onnxseal_onnx::model::Span;
#[cfg(feature = "protect")]
use onnxseal_onnx::model::{self, Payload};
use serde::Serialize;

use super::targets::Targets;
use crate::format::tiers::{Fill, TierRuns};

/// One tensor of which some part is encrypted. Only a [`Manifest`](super::Manifest) has one.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Tensor {
    /// The tensor's name in the graph.
    pub name: String,
    /// The tensor's protobuf path in `ModelProto`.
    pub at: String,
    /// Name of the element type in `TensorProto.DataType`.
    pub data_type: Cow<'static, str>,
    /// Shape.
    pub dims: Vec<u64>,
    /// The nodes that consume it. It was planned for the first.
    pub operators: Vec<Operator>,
    /// How the targets are encrypted.
    pub mode: Mode,
    /// The tiers whose keys open them.
    pub tier: TierRuns,
    /// Index into [`Manifest::files`].
    pub file: u32,
    /// Offset of the first element in bytes.
    pub offset: u64,
    /// Bits of one element.
    pub element_bits: u32,
    /// Bytes from the start of one element to the start of the next, if they do not touch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<u32>,
    /// Elements in a subsequence.
    pub unit: u64,
    /// Number of subsequences.
    pub n: u64,
    /// The encrypted subsequences: `[skip, take, skip, take, ...]`.
    pub targets: Targets,
    /// What stands in place of an element that a tier lacks.
    #[serde(skip_serializing_if = "Fill::is_zero")]
    pub fill: Fill,
}

/// A node that consumes a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Operator {
    /// `op_type`, with its domain in front unless `ai.onnx`.
    pub op_type: Cow<'static, str>,
    /// Node name, often empty.
    pub node: String,
}

/// How targets are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Their bytes: AES-GCM for the first tier, AES-CTR for the others.
    Bytes,
    /// For tiers above the first the sign and the mantissa of each element.
    Mask,
    /// For tiers above the first elements change places.
    Shuffle,
}

/// The place of a tensor's elements. The members are those of [`Tensor`].
#[cfg(feature = "protect")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) offset: u64,
    pub(crate) element_bits: u32,
    pub(crate) stride: Option<u32>,
}

impl Tensor {
    /// The place of its elements.
    #[cfg(feature = "protect")]
    pub(crate) fn place(&self) -> Place {
        Place {
            file: self.file,
            offset: self.offset,
            element_bits: self.element_bits,
            stride: self.stride,
        }
    }

    /// Number of elements; `None` if the product overflows.
    pub(super) fn elements(&self) -> Option<u64> {
        self.dims
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim))
    }

    /// The subsequences that are encrypted, as runs `(first, count)`.
    fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut next = 0u64;
        self.targets.chunks_exact(2).map(move |run| {
            let (skip, take) = (run[0], run[1]);
            let first = next.saturating_add(skip);
            next = first.saturating_add(take);
            (first, take)
        })
    }

    /// Number of runs of encrypted subsequences.
    #[cfg(feature = "protect")]
    pub(crate) fn n_runs(&self) -> usize {
        self.targets.len() / 2
    }

    /// Number of encrypted subsequences, `k`.
    pub fn n_targets(&self) -> u64 {
        self.runs().map(|(_, take)| take).sum()
    }

    /// Length of all elements in bytes, without the bytes between them.
    pub fn len_bytes(&self) -> u64 {
        bytes_of(self.elements().unwrap_or(0), self.element_bits)
    }

    /// The bytes from the first element to the last, with the bytes between them.
    pub(crate) fn extent(&self) -> Span {
        let len = match self.stride {
            None => self.len_bytes(),
            Some(stride) => self
                .elements()
                .unwrap_or(0)
                .saturating_mul(u64::from(stride)),
        };
        Span {
            start: self.offset,
            len,
        }
    }

    /// Length of the encrypted elements in bytes.
    pub fn encrypted_bytes(&self) -> u64 {
        let elements = self.elements().unwrap_or(0);
        self.element_runs(elements)
            .map(|(first, end)| {
                bytes_of(end, self.element_bits) - bytes_of(first, self.element_bits)
            })
            .sum()
    }

    /// The encrypted elements, as ranges `(first, end)` in ascending order.
    pub fn encrypted_elements(&self) -> impl Iterator<Item = (u64, u64)> {
        self.element_runs(self.elements().unwrap_or(0))
    }

    /// The same of a tensor of `elements` elements.
    fn element_runs(&self, elements: u64) -> impl Iterator<Item = (u64, u64)> {
        self.runs().map(move |(first, take)| {
            // The last subsequence may be shorter than a unit.
            let end = first
                .saturating_add(take)
                .saturating_mul(self.unit)
                .min(elements);
            (first.saturating_mul(self.unit).min(end), end)
        })
    }

    /// Appends the target bytes of each tier to `spans`, with the tier. Without tiers, that is 1.
    pub(super) fn tier_spans(&self, spans: &mut Vec<(Span, u8)>) {
        self.tier_elements(|run, tier| self.spans_of(run, |span| spans.push((span, tier))));
    }

    /// Calls `take` with the encrypted elements, as ranges `(first, end)` in ascending order, each with its
    /// tier. Without tiers, that is 1.
    pub fn tier_elements(&self, mut take: impl FnMut((u64, u64), u8)) {
        let elements = self.elements().unwrap_or(0);
        let mut tiers = self.tier.iter();
        let first = || (1, u64::MAX);
        let (mut tier, mut left) = tiers.next().unwrap_or_else(first);
        for (mut first, n_units) in self.runs() {
            let end = first.saturating_add(n_units);
            while first < end {
                if left == 0 {
                    // Takes add up to the number of targets.
                    let Some(next) = tiers.next() else { return };
                    (tier, left) = next;
                }
                let n = left.min(end - first);
                let run = (
                    first.saturating_mul(self.unit).min(elements),
                    (first + n).saturating_mul(self.unit).min(elements),
                );
                take(run, tier);
                (first, left) = (first + n, left - n);
            }
        }
    }

    /// Adds the bytes of the targets of each tier to `sums`, which has a place for each tier from 1.
    #[cfg(feature = "protect")]
    pub(crate) fn add_tier_bytes(&self, sums: &mut [u64]) {
        // Most models have no tiers, and all targets are none's.
        if sums.is_empty() {
            return;
        }
        self.tier_elements(|(first, end), tier| {
            if let Some(sum) = sums.get_mut(usize::from(tier) - 1) {
                *sum += bytes_of(end, self.element_bits) - bytes_of(first, self.element_bits);
            }
        });
    }

    /// How many spans [`Tensor::spans`] appends.
    pub(super) fn n_spans(&self) -> u64 {
        match self.stride {
            None => self.targets.len() as u64 / 2,
            Some(_) => {
                let runs = self.element_runs(self.elements().unwrap_or(0));
                runs.map(|(first, end)| end - first).sum()
            }
        }
    }

    /// Appends the tensor's target bytes to `spans`.
    pub(super) fn spans(&self, spans: &mut Vec<Span>) {
        let elements = self.elements().unwrap_or(0);
        for run in self.element_runs(elements) {
            self.spans_of(run, |span| spans.push(span));
        }
    }

    /// The bytes of the elements from `first` up to `end`.
    fn spans_of(&self, (first, end): (u64, u64), mut take: impl FnMut(Span)) {
        match self.stride {
            None => {
                let start = bytes_of(first, self.element_bits);
                let len = bytes_of(end, self.element_bits) - start;
                take(Span {
                    start: self.offset + start,
                    len,
                });
            }
            Some(stride) => (first..end).for_each(|element| {
                take(Span {
                    start: self.offset + element * u64::from(stride),
                    len: u64::from(self.element_bits / 8),
                });
            }),
        }
    }
}

#[cfg(feature = "protect")]
impl Place {
    /// The place of a tensor of the graph; `None` if its elements cannot be replaced.
    pub(crate) fn of(tensor: &model::Tensor<'_>) -> Option<Place> {
        match tensor.payload {
            Payload::Dense {
                file,
                span,
                element_bits,
                ..
            } => Some(Place {
                file: file.0,
                offset: span.start,
                element_bits,
                stride: None,
            }),
            Payload::Strided {
                start,
                stride,
                element_bits,
                ..
            } => Some(Place {
                file: 0,
                offset: start,
                element_bits,
                stride: Some(stride),
            }),
            Payload::Empty | Payload::Unpatchable(_) => None,
        }
    }
}

/// Bytes that `elements` of `bits` each take; the last byte may be padded.
fn bytes_of(elements: u64, bits: u32) -> u64 {
    // elements * bits without overflow: checked manifests stay below 2^53 * 2^7.
    elements.saturating_mul(u64::from(bits)).div_ceil(8)
}
