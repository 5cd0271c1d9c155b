//! The manifest: what `onnxseal.manifest` says, checked against the rules of `docs/FORMAT.md`.

use std::collections::BTreeMap;
use std::fmt;

use onnxseal_onnx::external;
use onnxseal_onnx::model::Span;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::spans::SpanSet;

/// The only suite of format 1.
pub const SUITE: &str = "AES-256-GCM/HKDF-SHA256";

/// The format version that this crate reads and writes.
pub const FORMAT: u32 = 1;

/// Bytes in a chunk, unless the caller chooses otherwise.
pub const DEFAULT_CHUNK_BYTES: u64 = 1 << 20;

/// The largest integer that every JSON reader keeps exactly.
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The most separate runs of target bytes that a model may have: 256 MiB of [`Span`]s.
const MAX_SPANS: u64 = 1 << 24;

/// What is encrypted in a protected model, and how; holds no key and depends on none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version, [`FORMAT`].
    pub format: u32,
    /// Cipher suite, [`SUITE`].
    pub suite: String,
    /// Bytes in a chunk.
    pub chunk: u64,
    /// Number of tiers.
    pub tiers: u8,
    /// The model file first, then the external data files.
    pub files: Vec<File>,
    /// Statements of the publisher, authenticated.
    #[serde(deserialize_with = "without_duplicates")]
    pub claims: BTreeMap<String, String>,
    /// Every tensor of which some part is encrypted, in file order.
    pub tensors: Vec<Tensor>,
}

/// One file of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Path relative to the model's folder, `/`-separated; empty for the model file itself.
    pub path: String,
    /// Length in bytes; of the model file without its tail.
    pub bytes: u64,
}

/// One tensor of which some part is encrypted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// The tensor's name in the graph.
    pub name: String,
    /// The tensor's protobuf path in `ModelProto`.
    pub at: String,
    /// Name of the element type in `TensorProto.DataType`.
    pub data_type: String,
    /// Shape.
    pub dims: Vec<u64>,
    /// The nodes that consume it, the one it was planned for first.
    pub operators: Vec<Operator>,
    /// How the targets are encrypted.
    pub mode: Mode,
    /// The tier whose key opens them.
    pub tier: u8,
    /// Index into [`Manifest::files`].
    pub file: u32,
    /// Offset of the first element in bytes.
    pub offset: u64,
    /// Bits of one element.
    pub element_bits: u32,
    /// Bytes from the start of one element to the start of the next, where they do not touch.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub stride: Option<u32>,
    /// Elements in a subsequence.
    pub unit: u64,
    /// Number of subsequences.
    pub n: u64,
    /// Which subsequences are encrypted: `[skip, take, skip, take, ...]`.
    pub targets: Vec<u64>,
}

/// A node that consumes a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// `op_type`, with its domain in front unless `ai.onnx`.
    pub op_type: String,
    /// Node name, often empty.
    pub node: String,
}

/// How targets are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// AES-GCM over their bytes.
    Bytes,
}

impl Tensor {
    /// Number of elements, or `None` where the product overflows.
    fn elements(&self) -> Option<u64> {
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

    /// Number of encrypted subsequences, `k`.
    pub fn n_targets(&self) -> u64 {
        self.runs().map(|(_, take)| take).sum()
    }

    /// Length of all elements in bytes, without what lies between them.
    pub fn len_bytes(&self) -> u64 {
        bytes_of(self.elements().unwrap_or(0), self.element_bits)
    }

    /// The bytes from the first element to the last, with what lies between them.
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

    /// The encrypted elements, as ranges `(first, end)`.
    fn element_runs(&self, elements: u64) -> impl Iterator<Item = (u64, u64)> {
        self.runs().map(move |(first, take)| {
            let end = first
                .saturating_add(take)
                .saturating_mul(self.unit)
                .min(elements);
            (first.saturating_mul(self.unit).min(end), end)
        })
    }

    /// How many spans [`Tensor::spans`] appends.
    fn n_spans(&self) -> u64 {
        match self.stride {
            None => self.targets.len() as u64 / 2,
            Some(_) => self.n_targets().saturating_mul(self.unit),
        }
    }

    /// Appends the tensor's target bytes to `spans`.
    fn spans(&self, spans: &mut Vec<Span>) {
        let elements = self.elements().unwrap_or(0);
        for (first, end) in self.element_runs(elements) {
            match self.stride {
                None => {
                    let start = bytes_of(first, self.element_bits);
                    let len = bytes_of(end, self.element_bits) - start;
                    spans.push(Span {
                        start: self.offset + start,
                        len,
                    });
                }
                Some(stride) => spans.extend((first..end).map(|element| Span {
                    start: self.offset + element * u64::from(stride),
                    len: u64::from(self.element_bits / 8),
                })),
            }
        }
    }

    fn check(&self, manifest: &Manifest) -> Result<(), String> {
        let elements = self
            .elements()
            .filter(|&n| n <= MAX_INTEGER)
            .ok_or("dims overflow")?;
        if !matches!(self.element_bits, 2 | 4 | 6 | 8 | 16 | 32 | 64 | 128) {
            return Err(format!("element_bits {} is not a width", self.element_bits));
        }
        let bits = u64::from(self.element_bits);
        let units = self
            .unit
            .checked_mul(bits)
            .filter(|&unit| unit > 0 && unit % 8 == 0);
        if units.is_none() || self.n != elements.div_ceil(self.unit.max(1)) {
            return Err(format!(
                "unit {} and n {} do not fit {elements} elements",
                self.unit, self.n
            ));
        }
        if let Some(stride) = self.stride
            && (self.element_bits < 8 || stride <= self.element_bits / 8)
        {
            return Err(format!("stride {stride} is not more than an element"));
        }
        if self.tier != 1 {
            return Err(format!("tier {} is not supported", self.tier));
        }
        if self.targets.is_empty() || !self.targets.len().is_multiple_of(2) {
            return Err("targets are not runs of skip and take".into());
        }
        let mut end = 0u64;
        for (i, run) in self.targets.chunks_exact(2).enumerate() {
            if (run[0] == 0 && i > 0) || run[1] == 0 {
                return Err("targets have an empty run".into());
            }
            end = run
                .iter()
                .try_fold(end, |end, &n| end.checked_add(n))
                .ok_or("targets overflow")?;
        }
        if end > self.n {
            return Err(format!("targets reach subsequence {end} of {}", self.n));
        }
        let file = manifest
            .files
            .get(self.file as usize)
            .ok_or_else(|| format!("file {} of {}", self.file, manifest.files.len()))?;
        let width = match self.stride {
            None => elements.checked_mul(bits).map(|bits| bits.div_ceil(8)),
            Some(stride) => (elements.saturating_sub(1))
                .checked_mul(u64::from(stride))
                .and_then(|start| start.checked_add(bits / 8)),
        };
        let end = width.and_then(|width| self.offset.checked_add(width));
        if end.is_none_or(|end| end > file.bytes) {
            return Err(format!(
                "elements reach past the {} bytes of their file",
                file.bytes
            ));
        }
        Ok(())
    }
}

impl Manifest {
    /// Parses and checks the bytes of `onnxseal.manifest`.
    ///
    /// # Errors
    /// Says which rule of `docs/FORMAT.md` is broken.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| format!("manifest: {error}"))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!(
                "format version {} (this program reads {FORMAT})",
                self.format
            ));
        }
        if self.suite != SUITE {
            return Err(format!(
                "suite {:?} (this program reads {SUITE})",
                self.suite
            ));
        }
        if !self.chunk.is_power_of_two() || !(1 << 16..=1 << 24).contains(&self.chunk) {
            return Err(format!("chunk size {}", self.chunk));
        }
        if self.tiers != 1 {
            return Err(format!("{} tiers (this program reads 1)", self.tiers));
        }
        if self
            .files
            .first()
            .is_none_or(|model| !model.path.is_empty())
        {
            return Err("the first file is not the model file".into());
        }
        let mut seen = std::collections::HashSet::new();
        for file in self.files.iter().skip(1) {
            if external::normalise(&file.path).as_deref() != Ok(&file.path)
                || !seen.insert(&file.path)
            {
                return Err(format!("file path {:?}", file.path));
            }
        }
        self.check_integers()?;
        let mut n_spans = 0u64;
        for tensor in &self.tensors {
            tensor
                .check(self)
                .map_err(|why| format!("tensor {:?}: {why}", tensor.name))?;
            n_spans = n_spans.saturating_add(tensor.n_spans());
        }
        match n_spans > MAX_SPANS {
            true => Err(format!(
                "{n_spans} separate runs of target bytes (limit {MAX_SPANS})"
            )),
            false => Ok(()),
        }
    }

    fn check_integers(&self) -> Result<(), String> {
        let mut total = 0u64;
        for file in &self.files {
            total = total.saturating_add(file.bytes);
        }
        let of_tensor = |t: &Tensor| {
            let numbers = t
                .dims
                .iter()
                .chain(&t.targets)
                .chain([&t.offset, &t.unit, &t.n]);
            numbers.copied().max().unwrap_or(0)
        };
        let largest = self
            .tensors
            .iter()
            .map(of_tensor)
            .max()
            .unwrap_or(0)
            .max(total);
        match largest > MAX_INTEGER {
            true => Err(format!("integer {largest} is over 2^53 - 1")),
            false => Ok(()),
        }
    }

    /// The target bytes of every file, in the order of [`Manifest::files`].
    pub(crate) fn target_spans(&self) -> Vec<SpanSet> {
        let mut spans = vec![Vec::new(); self.files.len()];
        for tensor in &self.tensors {
            if let Some(spans) = spans.get_mut(tensor.file as usize) {
                tensor.spans(spans);
            }
        }
        spans.into_iter().map(SpanSet::union).collect()
    }

    /// Number of chunks of all files.
    pub(crate) fn n_chunks(&self) -> u64 {
        self.files
            .iter()
            .map(|file| file.bytes.div_ceil(self.chunk))
            .sum()
    }
}

/// Bytes that `elements` of `bits` each take; the last byte may be padded.
fn bytes_of(elements: u64, bits: u32) -> u64 {
    // elements * bits without overflow: checked manifests stay below 2^53 * 2^7.
    elements.saturating_mul(u64::from(bits)).div_ceil(8)
}

/// Reads a member that may be absent but not `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    u32::deserialize(deserializer).map(Some)
}

fn without_duplicates<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Claims;
    impl<'de> Visitor<'de> for Claims {
        type Value = BTreeMap<String, String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut claims = BTreeMap::new();
            while let Some((key, value)) = map.next_entry()? {
                if let Some(_first) = claims.insert(key, value) {
                    return Err(serde::de::Error::custom("duplicate claim"));
                }
            }
            Ok(claims)
        }
    }
    deserializer.deserialize_map(Claims)
}
