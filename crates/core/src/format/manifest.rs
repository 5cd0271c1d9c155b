//! The manifest: what `onnxseal.manifest` says, checked against the rules of `docs/FORMAT.md`.

use std::borrow::Cow;
use std::collections::BTreeMap;

#[cfg(feature = "protect")]
use base64::Engine;
#[cfg(feature = "protect")]
use base64::engine::general_purpose::STANDARD;
use onnxseal_onnx::edit::Edits;
use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::Span;
#[cfg(feature = "protect")]
use onnxseal_onnx::model::{self, Payload};
use serde::{Deserialize, Serialize};

#[cfg(feature = "protect")]
use crate::error::{Error, rule};
use crate::format::spans::SpanSet;

mod check;
mod json;

/// The only suite of format 1.
pub const SUITE: &str = "AES-256-GCM/HKDF-SHA256";

/// The format version of models whose external data files have the original's names.
pub const FORMAT: u32 = 1;

/// The format version of models that say how to restore the original's names; the last that this
/// crate reads.
pub const FORMAT_RENAMED: u32 = 2;

/// Bytes in a chunk, unless the caller chooses otherwise.
pub const DEFAULT_CHUNK_BYTES: u64 = 1 << 20;

/// The most bytes that a manifest may have.
pub const MAX_MANIFEST_BYTES: usize = 64 << 20;

/// What is encrypted in a protected model, and how; holds no key and depends on none.
///
/// One that exists obeys the rules of `docs/FORMAT.md`: [`Manifest::parse`] is the way to get one.
#[derive(Debug)]
pub struct Manifest {
    pub(crate) chunk: u64,
    pub(crate) files: Vec<File>,
    pub(crate) claims: BTreeMap<String, String>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) original: Option<Original>,
}

/// How to make the original of a model whose external data files were renamed.
#[derive(Debug)]
pub(crate) struct Original {
    /// Length of the original model file.
    pub(crate) bytes: u64,
    /// The original paths of the external data files.
    pub(crate) paths: Vec<String>,
    /// What turns the model file into the original one.
    pub(crate) edits: Edits,
}

/// The same, by the members of its JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginalDraft {
    bytes: u64,
    paths: Vec<String>,
    /// Base64.
    #[serde(deserialize_with = "json::texts")]
    texts: Vec<String>,
    edits: Vec<u64>,
}

/// What a manifest says, by the members of its JSON; nobody has checked it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    pub(crate) format: u32,
    pub(crate) suite: String,
    pub(crate) chunk: u64,
    pub(crate) tiers: u8,
    #[serde(deserialize_with = "json::objects")]
    pub(crate) files: Vec<File>,
    #[serde(deserialize_with = "json::claims")]
    pub(crate) claims: BTreeMap<String, String>,
    #[serde(deserialize_with = "json::objects")]
    pub(crate) tensors: Vec<Tensor>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "json::original"
    )]
    pub(crate) original: Option<OriginalDraft>,
}

/// One file of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Path relative to the model's folder, `/`-separated; empty for the model file itself.
    pub path: String,
    /// Length in bytes; of the model file without its tail.
    pub bytes: u64,
}

/// One tensor of which some part is encrypted. Only a [`Manifest`] has one.
#[derive(Debug, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<u32>,
    /// Elements in a subsequence.
    pub unit: u64,
    /// Number of subsequences.
    pub n: u64,
    /// Which subsequences are encrypted: `[skip, take, skip, take, ...]`.
    pub targets: Vec<u64>,
}

/// A node that consumes a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Operator {
    /// `op_type`, with its domain in front unless `ai.onnx`.
    pub op_type: String,
    /// Node name, often empty.
    pub node: String,
}

/// How targets are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// AES-GCM over their bytes.
    Bytes,
}

/// Where a tensor's elements lie; the members are those of [`Tensor`].
#[cfg(feature = "protect")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) offset: u64,
    pub(crate) element_bits: u32,
    pub(crate) stride: Option<u32>,
}

#[cfg(feature = "protect")]
impl OriginalDraft {
    /// The original's files, of which those of the protected model are `files`.
    pub(crate) fn files(&self, files: &[File]) -> Vec<File> {
        original_files(self.bytes, &self.paths, files)
    }

    /// The original of `bytes` bytes, with external data files at `paths`, that `edits` restore.
    pub(crate) fn new(bytes: u64, paths: Vec<String>, edits: &Edits) -> OriginalDraft {
        let texts = edits.texts().iter().map(|text| STANDARD.encode(text));
        OriginalDraft {
            bytes,
            paths,
            texts: texts.collect(),
            edits: edits.numbers().to_vec(),
        }
    }
}

#[cfg(feature = "protect")]
impl Place {
    /// The place of a tensor of the graph; `None` where its elements cannot be replaced.
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

impl Tensor {
    /// Where the elements lie.
    #[cfg(feature = "protect")]
    pub(crate) fn place(&self) -> Place {
        Place {
            file: self.file,
            offset: self.offset,
            element_bits: self.element_bits,
            stride: self.stride,
        }
    }

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
            Some(_) => {
                let runs = self.element_runs(self.elements().unwrap_or(0));
                runs.map(|(first, end)| end - first).sum()
            }
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
}

impl Draft {
    /// What the JSON in `bytes` says.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Draft, String> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(format!(
                "manifest of {} bytes (limit {MAX_MANIFEST_BYTES})",
                bytes.len()
            ));
        }
        let draft: Result<json::Object<Draft>, _> = serde_json::from_slice(bytes);
        match draft {
            Ok(json::Object(draft)) => Ok(draft),
            // A later version may have other members: what they are called is beside the point.
            Err(error) => match serde_json::from_slice(bytes) {
                Ok(Version { format }) if format > FORMAT_RENAMED => Err(unknown_format(format)),
                _ => Err(format!("manifest: {}", excerpt(&error.to_string()))),
            },
        }
    }

    /// One that encrypts nothing of `files`: how they are cut into chunks, and no more.
    #[cfg(feature = "protect")]
    pub(crate) fn of_files(files: Vec<File>) -> Draft {
        Draft {
            format: FORMAT,
            suite: SUITE.to_owned(),
            chunk: DEFAULT_CHUNK_BYTES,
            tiers: 1,
            files,
            claims: BTreeMap::new(),
            tensors: Vec::new(),
            original: None,
        }
    }

    /// The manifest, if it is one.
    ///
    /// # Errors
    /// Says which rule of `docs/FORMAT.md` is broken.
    pub(crate) fn into_manifest(self) -> Result<Manifest, String> {
        self.check()?;
        let original = self
            .original
            .as_ref()
            .map(|original| self.check_original(original));
        let original = original.transpose()?;
        let Draft {
            format: _,
            suite: _,
            chunk,
            tiers: _,
            files,
            claims,
            tensors,
            original: _,
        } = self;
        Ok(Manifest {
            chunk,
            files,
            claims,
            tensors,
            original,
        })
    }

    /// The bytes to be authenticated, and what a reader makes of them.
    #[cfg(feature = "protect")]
    pub(crate) fn encode(mut self) -> Result<(Manifest, Vec<u8>), Error> {
        self.format = match self.original {
            None => FORMAT,
            Some(_) => FORMAT_RENAMED,
        };
        let bytes = serde_json::to_vec(&self)
            .map_err(|_| Error::Internal("the manifest cannot be written"))?;
        drop(self);
        let manifest = Manifest::parse(&bytes).map_err(rule)?;
        Ok((manifest, bytes))
    }
}

impl Manifest {
    /// Parses and checks the bytes of `onnxseal.manifest`.
    ///
    /// # Errors
    /// Says which rule of `docs/FORMAT.md` is broken.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
        Draft::parse(bytes)?.into_manifest()
    }

    /// Bytes in a chunk.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk
    }

    /// The model file first, then the external data files.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Statements of the publisher, authenticated.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.claims
    }

    /// Every tensor of which some part is encrypted, in file order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Whether opening restores names of external data files that protecting has changed.
    pub fn restores_names(&self) -> bool {
        self.original.is_some()
    }

    /// The files of the original, in the order of [`Manifest::files`]: others only where external data
    /// files were renamed.
    pub fn original_files(&self) -> Vec<File> {
        let Some(original) = &self.original else {
            return self.files.clone();
        };
        original_files(original.bytes, &original.paths, &self.files)
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

    /// Length of the original model file in bytes.
    pub fn model_bytes(&self) -> u64 {
        self.files.first().map_or(0, |model| model.bytes)
    }

    /// Length of all files together in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Number of chunks of all files.
    pub(crate) fn n_chunks(&self) -> u64 {
        self.files
            .iter()
            .map(|file| file.bytes.div_ceil(self.chunk))
            .sum()
    }
}

/// The original's files, of which those of the protected model are `files`.
fn original_files(bytes: u64, paths: &[String], files: &[File]) -> Vec<File> {
    let model = File {
        path: String::new(),
        bytes,
    };
    let external = paths.iter().zip(files.iter().skip(1));
    let external = external.map(|(path, file)| File {
        path: path.clone(),
        bytes: file.bytes,
    });
    std::iter::once(model).chain(external).collect()
}

/// The one member that every version has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

fn unknown_format(format: u32) -> String {
    format!("format version {format} (this program reads {FORMAT} and {FORMAT_RENAMED})")
}

/// Bytes that `elements` of `bits` each take; the last byte may be padded.
fn bytes_of(elements: u64, bits: u32) -> u64 {
    // elements * bits without overflow: checked manifests stay below 2^53 * 2^7.
    elements.saturating_mul(u64::from(bits)).div_ceil(8)
}
