//! A manifest as the members of its JSON, unchecked, and its bytes.

use std::collections::BTreeMap;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_onnx::edit::Edits;
use onnxseal_onnx::excerpt;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{self, Error};
use crate::format::manifest::json::{self, Members, Object, members};
use crate::format::manifest::tensor::Tensor;

/// The only version of the format.
pub const FORMAT: u32 = 1;

/// The only suite of the format.
pub const SUITE: &str = "AES-256-GCM/HKDF-SHA256";

/// Bytes in a chunk, unless the caller chooses otherwise.
pub const DEFAULT_CHUNK_BYTES: u64 = 1 << 19;

/// The most bytes that a manifest may have.
pub const MAX_MANIFEST_BYTES: usize = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OriginalDraft {
    pub(super) bytes: u64,
    pub(super) paths: Vec<String>,
    /// Base64.
    #[serde(deserialize_with = "json::texts")]
    pub(super) texts: Vec<String>,
    pub(super) edits: Vec<u64>,
}

/// A manifest as the members of its JSON, unchecked.
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
        deserialize_with = "json::object"
    )]
    pub(crate) original: Option<OriginalDraft>,
}

impl OriginalDraft {
    /// Describes an original of `bytes` bytes with external data files at `paths`, which `edits`
    /// restore.
    pub(crate) fn new(bytes: u64, paths: Vec<String>, edits: &Edits) -> OriginalDraft {
        let texts = edits.texts().iter().map(|text| STANDARD.encode(text));
        OriginalDraft {
            bytes,
            paths,
            texts: texts.collect(),
            edits: edits.numbers().to_vec(),
        }
    }

    /// Returns the files of the original whose protected files are `files`.
    pub(crate) fn files(&self, files: &[File]) -> Vec<File> {
        let mut files = files.to_vec();
        for (file, path) in files.iter_mut().skip(1).zip(&self.paths) {
            file.path.clone_from(path);
        }
        files
            .iter_mut()
            .take(1)
            .for_each(|model| model.bytes = self.bytes);
        files
    }
}

/// One file of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Path relative to the model's folder, `/`-separated; empty for the model file itself.
    pub path: String,
    /// Length in bytes; the model file's is without its tail.
    pub bytes: u64,
}

#[derive(Deserialize)]
#[serde(remote = "File", deny_unknown_fields)]
struct FileMembers {
    path: String,
    bytes: u64,
}

members!(FileMembers => File, OriginalDraft => OriginalDraft, Draft => Draft);

impl Draft {
    /// Makes a manifest that cuts `files` into chunks and encrypts nothing.
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

    /// Encodes the bytes to be authenticated, which [`Manifest::parse`](crate::Manifest::parse)
    /// checks.
    pub(crate) fn encode(&self) -> error::Result<Vec<u8>> {
        // Counted first: a buffer that grows may take twice the memory.
        let n_bytes = count_bytes(self)?;
        check_len(n_bytes).map_err(Error::Usage)?;
        let mut bytes = Vec::with_capacity(n_bytes);
        write(self, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Draft, String> {
        check_len(bytes.len())?;
        match serde_json::from_slice(bytes) {
            Ok(Object(draft)) => Ok(draft),
            Err(error) => {
                // A later format may have other members: report the format rather than a member.
                if let Ok(Version { format, suite }) = serde_json::from_slice(bytes) {
                    check_version(format, suite.as_deref().unwrap_or(SUITE))?;
                }
                Err(format!("manifest: {}", excerpt(&error.to_string())))
            }
        }
    }

    pub(super) fn n_tiers(&self) -> usize {
        self.tiers.len().max(1)
    }
}

pub(crate) fn check_len(n_bytes: usize) -> Result<(), String> {
    if n_bytes > MAX_MANIFEST_BYTES {
        return Err(format!(
            "manifest of {n_bytes} bytes (limit {MAX_MANIFEST_BYTES})"
        ));
    }
    Ok(())
}

/// The members that say how to read all others.
#[derive(Deserialize)]
struct Version {
    format: u64,
    suite: Option<String>,
}

pub(super) fn check_version(format: u64, suite: &str) -> Result<(), String> {
    if format != u64::from(FORMAT) {
        return Err(format!("format {format} (this program reads {FORMAT})"));
    }
    if suite != SUITE {
        let suite = excerpt(suite);
        return Err(format!("suite {suite:?} (this program reads {SUITE})"));
    }
    Ok(())
}

pub(crate) fn count_bytes(value: &impl Serialize) -> error::Result<usize> {
    let mut count = Count(0);
    write(value, &mut count)?;
    Ok(count.0)
}

fn write(value: &impl Serialize, out: &mut impl io::Write) -> error::Result<()> {
    serde_json::to_writer(out, value).map_err(|_| Error::Internal("the manifest cannot be written"))
}

struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
