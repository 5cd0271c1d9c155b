//! The manifest: the contents of `onnxseal.manifest`, checked against the rules of `docs/FORMAT.md`.

use std::collections::BTreeMap;

#[cfg(feature = "protect")]
use base64::Engine;
#[cfg(feature = "protect")]
use base64::engine::general_purpose::STANDARD;
use onnxseal_onnx::edit::Edits;
use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::Span;
use serde::{Deserialize, Serialize};

#[cfg(feature = "protect")]
use crate::error::{Error, rule};
use crate::format::spans::SpanSet;

mod check;
mod json;
mod targets;
mod tensor;

pub use targets::Targets;
#[cfg(feature = "protect")]
pub(crate) use targets::TierRun;
#[cfg(feature = "protect")]
pub(crate) use tensor::Place;
pub use tensor::{ElementType, Mode, Operator, Tensor};

/// The only version of the format.
pub const FORMAT: u32 = 1;

/// The only suite of the format.
pub const SUITE: &str = "AES-256-GCM/HKDF-SHA256";

/// Bytes in a chunk, unless the caller chooses otherwise.
pub const DEFAULT_CHUNK_BYTES: u64 = 1 << 20;

/// The most bytes that a manifest may have.
pub const MAX_MANIFEST_BYTES: usize = 64 << 20;

/// Which bytes of a protected model are encrypted, and how. It has no key and depends on none.
///
/// Every value of this type obeys the rules of `docs/FORMAT.md`: [`Manifest::parse`] makes it.
#[derive(Debug)]
pub struct Manifest {
    pub(crate) chunk: u64,
    pub(crate) files: Vec<File>,
    pub(crate) claims: BTreeMap<String, String>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) original: Option<Original>,
    /// The names of the tiers, the least first; none if there is one edition.
    pub(crate) tier_names: Vec<String>,
    /// Whether the tail has the lock.
    pub(crate) lock: bool,
}

/// How to restore the original of a model whose external data files were renamed.
#[derive(Debug)]
pub(crate) struct Original {
    /// Length of the original model file.
    pub(crate) bytes: u64,
    /// The original paths of the external data files.
    pub(crate) paths: Vec<String>,
    /// The edits that turn the model file into the original one.
    pub(crate) edits: Edits,
}

/// The member `original` as it is in the JSON. Nobody has checked it.
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

/// A manifest as the members of its JSON. Nobody has checked it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    pub(crate) format: u32,
    pub(crate) suite: String,
    pub(crate) chunk: u64,
    pub(crate) lock: bool,
    pub(crate) tiers: Vec<String>,
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

impl Draft {
    /// Reads the JSON in `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Draft, String> {
        check_len(bytes.len())?;
        let draft: Result<json::Object<Draft>, _> = serde_json::from_slice(bytes);
        match draft {
            Ok(json::Object(draft)) => Ok(draft),
            // A later format may have other members. Then its name says more than theirs.
            Err(error) => Err(match serde_json::from_slice(bytes) {
                Ok(Version { format, .. }) if format != u64::from(FORMAT) => unknown_format(format),
                Ok(Version {
                    suite: Some(suite), ..
                }) if suite != SUITE => unknown_suite(&suite),
                _ => format!("manifest: {}", excerpt(&error.to_string())),
            }),
        }
    }

    /// A manifest that encrypts no byte of `files`, and only cuts them into chunks.
    #[cfg(feature = "protect")]
    pub(crate) fn of_files(files: Vec<File>) -> Draft {
        Draft {
            format: FORMAT,
            suite: SUITE.to_owned(),
            chunk: DEFAULT_CHUNK_BYTES,
            lock: false,
            tiers: Vec::new(),
            files,
            claims: BTreeMap::new(),
            tensors: Vec::new(),
            original: None,
        }
    }

    /// Checks the rules.
    ///
    /// # Errors
    /// The text says which rule of `docs/FORMAT.md` is broken.
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
            lock,
            tiers: tier_names,
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
            tier_names,
            lock,
        })
    }

    /// The number of tiers.
    fn n_tiers(&self) -> usize {
        self.tiers.len().max(1)
    }

    /// The length of the manifest.
    ///
    /// # Errors
    /// [`Usage::Manifest`](crate::Usage::Manifest) if it is longer than a reader accepts.
    #[cfg(feature = "protect")]
    fn count_bytes(&self) -> Result<usize, Error> {
        let count = Count::of(self)?;
        check_len(count).map_err(rule)?;
        Ok(count)
    }

    /// The bytes to be authenticated. Nobody has checked them: [`Manifest::parse`] does.
    #[cfg(feature = "protect")]
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        // Counted first: bytes that are gathered without end may take twice the memory.
        let mut bytes = Vec::with_capacity(self.count_bytes()?);
        write(self, &mut bytes)?;
        Ok(bytes)
    }
}

/// The length of a manifest whose tensors come one by one, and that nobody keeps.
#[cfg(feature = "protect")]
pub(crate) struct Length {
    bytes: usize,
    has_tensors: bool,
}

#[cfg(feature = "protect")]
impl Length {
    /// The length of `draft`, whose list of tensors is empty.
    pub(crate) fn of(draft: &Draft) -> Result<Length, Error> {
        Ok(Length {
            bytes: Count::of(draft)?,
            has_tensors: false,
        })
    }

    /// Adds a tensor.
    pub(crate) fn add(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let comma = usize::from(self.has_tensors);
        self.has_tensors = true;
        self.bytes += comma + Count::of(tensor)?;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fails if the manifest is longer than a reader accepts.
    ///
    /// # Errors
    /// [`Usage::Manifest`](crate::Usage::Manifest).
    pub(crate) fn check(self) -> Result<(), Error> {
        check_len(self.bytes).map_err(rule)
    }
}

#[cfg(feature = "protect")]
fn write(value: &impl Serialize, out: &mut impl std::io::Write) -> Result<(), Error> {
    serde_json::to_writer(out, value).map_err(|_| Error::Internal("the manifest cannot be written"))
}

/// Counts bytes, and keeps none.
#[cfg(feature = "protect")]
struct Count(usize);

#[cfg(feature = "protect")]
impl Count {
    /// The length of the JSON of `value`.
    fn of(value: &impl Serialize) -> Result<usize, Error> {
        let mut count = Count(0);
        write(value, &mut count)?;
        Ok(count.0)
    }
}

#[cfg(feature = "protect")]
impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn check_len(n_bytes: usize) -> Result<(), String> {
    match n_bytes <= MAX_MANIFEST_BYTES {
        true => Ok(()),
        false => Err(format!(
            "manifest of {n_bytes} bytes (limit {MAX_MANIFEST_BYTES})"
        )),
    }
}

impl Manifest {
    /// Parses and checks the bytes of `onnxseal.manifest`.
    ///
    /// # Errors
    /// The text says which rule of `docs/FORMAT.md` is broken.
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

    /// The names of the tiers, the least first; none if the model has one edition only.
    pub fn tier_names(&self) -> &[String] {
        &self.tier_names
    }

    /// The number of tiers; 1 if the model has one edition only.
    pub fn n_tiers(&self) -> u8 {
        self.tier_names.len().max(1) as u8
    }

    /// Whether a program without the key refuses the model: its tail has the lock.
    pub fn is_locked(&self) -> bool {
        self.lock
    }

    /// The name of a tier, from 1; empty if the model has one edition only.
    pub(crate) fn tier_name(&self, tier: u8) -> &str {
        let name = self.tier_names.get(usize::from(tier).saturating_sub(1));
        name.map_or("", String::as_str)
    }

    /// The tier of this name, from 1.
    pub(crate) fn tier_named(&self, name: &str) -> Option<u8> {
        (1..)
            .zip(&self.tier_names)
            .find(|(_, of)| *of == name)
            .map(|(tier, _)| tier)
    }

    /// Whether opening restores names of external data files that protecting has changed.
    pub fn restores_names(&self) -> bool {
        self.original.is_some()
    }

    /// The files of the original, in the order of [`Manifest::files`]. They differ only if external data
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

    /// The target bytes of the first tier of every file, in the order of [`Manifest::files`], and those
    /// of all other tiers with their tensors.
    pub(crate) fn tier_spans(&self) -> (Vec<SpanSet>, Vec<Vec<HigherSpan>>) {
        let mut first = vec![Vec::new(); self.files.len()];
        let mut higher = vec![Vec::new(); self.files.len()];
        let mut spans = Vec::new();
        for (tensor, of) in (0..).zip(&self.tensors) {
            let file = of.file as usize;
            let (Some(first), Some(higher)) = (first.get_mut(file), higher.get_mut(file)) else {
                continue;
            };
            of.tier_spans(&mut spans);
            for (span, tier) in spans.drain(..) {
                match tier {
                    1 => first.push(span),
                    _ => higher.push(HigherSpan { span, tensor, tier }),
                }
            }
        }
        for higher in &mut higher {
            // Tensors may lie within each other.
            higher.sort_unstable_by_key(|higher| higher.span);
        }
        (first.into_iter().map(SpanSet::union).collect(), higher)
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

/// Target bytes of a tier above the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HigherSpan {
    pub(crate) span: Span,
    /// Index of the tensor in the manifest.
    pub(crate) tensor: u32,
    pub(crate) tier: u8,
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

/// The members that say how to read all others.
#[derive(Deserialize)]
struct Version {
    format: u64,
    suite: Option<String>,
}

fn unknown_format(format: impl std::fmt::Display) -> String {
    format!("format {format} (this program reads {FORMAT})")
}

fn unknown_suite(suite: &str) -> String {
    format!("suite {:?} (this program reads {SUITE})", excerpt(suite))
}
