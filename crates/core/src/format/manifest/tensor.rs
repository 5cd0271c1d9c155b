//! A tensor in the manifest, and where its bytes lie. Only this module turns subsequences into
//! spans of a file.

use std::borrow::Cow;

use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::{self, Payload, Span};
use onnxseal_onnx::proto::tensor_proto::DataType;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::format::manifest::json::{Members, element, members, objects, present, write_element};
use crate::format::manifest::targets::Targets;

/// A tensor of which some part is encrypted, as a [`Manifest`](super::Manifest) lists it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Tensor {
    /// The tensor's name in the graph.
    pub name: String,
    /// The tensor's protobuf path in `ModelProto`.
    pub at: String,
    /// Element type.
    pub data_type: ElementType,
    /// Shape.
    pub dims: Vec<u64>,
    /// The nodes that consume it; the plan counts it for the first.
    pub operators: Vec<Operator>,
    /// Index into [`Manifest::files`](super::Manifest::files).
    pub file: u32,
    /// Offset of the first element in bytes.
    pub offset: u64,
    /// Bytes from the start of one element to the start of the next, if there are gaps between
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<u32>,
    /// Elements in a subsequence.
    pub unit: u64,
    /// The encrypted subsequences.
    pub targets: Targets,
    /// How the targets of tiers above the first are encrypted.
    #[serde(skip_serializing_if = "Mode::is_bytes")]
    pub mode: Mode,
    /// The bytes that replace an element a tier lacks; empty for zeros.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_element"
    )]
    pub fill: Vec<u8>,
}

/// A node that consumes a tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// `op_type`, with its domain in front unless `ai.onnx`.
    pub op_type: Cow<'static, str>,
    /// Node name, often empty.
    pub node: String,
}

/// An element type whose elements have a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType {
    data_type: DataType,
    bits: u32,
}

impl ElementType {
    /// Returns the type for `data_type`, or `None` if its elements have no fixed width, as strings.
    pub fn of(data_type: DataType) -> Option<ElementType> {
        let bits = onnxseal_onnx::element_bits(data_type)?;
        Some(ElementType { data_type, bits })
    }

    /// Its name in `TensorProto.DataType`.
    pub fn name(self) -> &'static str {
        self.data_type.as_str_name()
    }

    /// Bits of one element.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Returns the bits of an element, repeated to fill 64, that [`Mode::Mask`] encrypts: sign and
    /// mantissa.
    pub(crate) fn mask(self) -> Option<u64> {
        Some(match self.data_type {
            DataType::Float => 0x807F_FFFF_807F_FFFF,
            DataType::Float16 => 0x83FF_83FF_83FF_83FF,
            DataType::Bfloat16 => 0x807F_807F_807F_807F,
            DataType::Double => 0x800F_FFFF_FFFF_FFFF,
            _ => return None,
        })
    }
}

impl Serialize for ElementType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How the targets of tiers above the first are encrypted. The first tier always uses `Bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All their bytes.
    #[default]
    Bytes,
    /// The sign and the mantissa of each element.
    Mask,
    /// Elements change places with each other.
    Shuffle,
}

impl Mode {
    fn is_bytes(&self) -> bool {
        *self == Mode::Bytes
    }
}

#[derive(Deserialize)]
#[serde(remote = "Tensor", deny_unknown_fields)]
struct TensorMembers {
    name: String,
    at: String,
    data_type: ElementType,
    dims: Vec<u64>,
    #[serde(deserialize_with = "objects")]
    operators: Vec<Operator>,
    file: u32,
    offset: u64,
    #[serde(default, deserialize_with = "present")]
    stride: Option<u32>,
    unit: u64,
    targets: Targets,
    #[serde(default)]
    mode: Mode,
    #[serde(default, deserialize_with = "element")]
    fill: Vec<u8>,
}

members!(Operator => Operator, TensorMembers => Tensor);

impl<'de> Deserialize<'de> for Mode {
    /// Reads a string only; serde's derive would accept `{"mask": null}` too. The format omits
    /// `bytes`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match &*String::deserialize(deserializer)? {
            "mask" => Ok(Mode::Mask),
            "shuffle" => Ok(Mode::Shuffle),
            other => Err(D::Error::unknown_variant(other, &["mask", "shuffle"])),
        }
    }
}

impl<'de> Deserialize<'de> for ElementType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = DataType::from_str_name(&name).and_then(ElementType::of);
        found.ok_or_else(|| {
            let name = excerpt(&name);
            D::Error::custom(format_args!("data_type {name:?} has no width"))
        })
    }
}

/// The place of a tensor's elements: the members of [`Tensor`] that say where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) offset: u64,
    pub(crate) element_bits: u32,
    pub(crate) stride: Option<u32>,
}

impl Tensor {
    pub(crate) fn place(&self) -> Place {
        Place {
            file: self.file,
            offset: self.offset,
            element_bits: self.data_type.bits(),
            stride: self.stride,
        }
    }

    /// Number of elements; `None` if the product overflows.
    pub(crate) fn elements(&self) -> Option<u64> {
        self.dims
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim))
    }

    /// Number of subsequences.
    pub fn n(&self) -> u64 {
        self.elements().unwrap_or(0).div_ceil(self.unit.max(1))
    }

    /// Number of encrypted subsequences, `k`.
    pub fn n_targets(&self) -> u64 {
        self.targets.runs().map(|(_, take)| take).sum()
    }

    /// Length of all elements in bytes, without the bytes between them.
    pub fn len_bytes(&self) -> u64 {
        bytes_of(self.elements().unwrap_or(0), self.data_type.bits())
    }

    /// The bytes from the first element to the last, with the bytes between them.
    pub(crate) fn extent(&self) -> Span {
        self.place().extent(self.elements().unwrap_or(0))
    }

    /// Length of the encrypted elements in bytes.
    pub fn encrypted_bytes(&self) -> u64 {
        let (bits, mut sum) = (self.data_type.bits(), 0);
        self.tier_elements(|(first, end), _| sum += bytes_of(end, bits) - bytes_of(first, bits));
        sum
    }

    /// The elements of the subsequences `(first, count)` of a tensor of `elements` elements.
    fn elements_of(&self, (first, count): (u64, u64), elements: u64) -> (u64, u64) {
        // The last subsequence may be cut short.
        let end = first
            .saturating_add(count)
            .saturating_mul(self.unit)
            .min(elements);
        (first.saturating_mul(self.unit).min(end), end)
    }

    pub(crate) fn spans(&self, mut take: impl FnMut(Span, u8)) {
        self.tier_elements(|run, tier| self.spans_of(run, |span| take(span, tier)));
    }

    /// Calls `take` with the encrypted elements, as ranges `(first, end)` in ascending order, each
    /// with its tier.
    pub fn tier_elements(&self, mut take: impl FnMut((u64, u64), u8)) {
        let elements = self.elements().unwrap_or(0);
        (self.targets).by_tier(|run, tier| take(self.elements_of(run, elements), tier));
    }

    /// Adds the target bytes of each tier to `sums`, which has one entry per tier; empty if the
    /// model has one edition only.
    pub(crate) fn add_tier_bytes(&self, sums: &mut [u64]) {
        let bits = self.data_type.bits();
        self.tier_elements(|(first, end), tier| {
            if let Some(sum) = sums.get_mut(usize::from(tier) - 1) {
                *sum += bytes_of(end, bits) - bytes_of(first, bits);
            }
        });
    }

    pub(super) fn n_spans(&self) -> u64 {
        let mut n = 0;
        self.tier_elements(|(first, end), _| n += self.stride.map_or(1, |_| end - first));
        n
    }

    /// Calls `take` with the bytes of the elements from `first` up to `end`.
    fn spans_of(&self, (first, end): (u64, u64), mut take: impl FnMut(Span)) {
        let (place, bits) = (self.place(), self.data_type.bits());
        let span = |first, end| Span {
            start: self.offset + place.step(first),
            len: bytes_of(end, bits) - bytes_of(first, bits),
        };
        match self.stride {
            None => take(span(first, end)),
            Some(_) => (first..end).for_each(|element| take(span(element, element + 1))),
        }
    }
}

impl Place {
    /// Returns the place of a tensor of the graph, or `None` if its elements cannot be replaced.
    pub(crate) fn of(tensor: &model::Tensor<'_>) -> Option<Place> {
        use Payload::{Dense, Empty, Strided, Unpatchable};
        let (Dense { element_bits, .. } | Strided { element_bits, .. }) = tensor.payload else {
            return None;
        };
        let (file, offset, stride) = match tensor.payload {
            Dense { file, span, .. } => (file.0, span.start, None),
            Strided { start, stride, .. } => (0, start, Some(stride)),
            Empty | Unpatchable(_) => return None,
        };
        Some(Place {
            file,
            offset,
            element_bits,
            stride,
        })
    }

    /// Bytes from the start of an element to the start of the one that follows `elements` later.
    pub(crate) fn step(self, elements: u64) -> u64 {
        match self.stride {
            None => bytes_of(elements, self.element_bits),
            Some(stride) => elements.saturating_mul(stride.into()),
        }
    }

    /// The bytes of `elements`, with the bytes between them.
    pub(crate) fn extent(self, elements: u64) -> Span {
        // A file may end with the last element, without the gap that follows the others.
        let gap = self
            .stride
            .map_or(0, |stride| stride.saturating_sub(self.element_bits / 8));
        Span {
            start: self.offset,
            len: self.step(elements).saturating_sub(gap.into()),
        }
    }
}

/// Bytes that `elements` of `bits` each take; the last byte may be padded.
fn bytes_of(elements: u64, bits: u32) -> u64 {
    // No overflow: a checked manifest stays below 2^53 elements * 2^7 bits.
    elements.saturating_mul(u64::from(bits)).div_ceil(8)
}
