//! The tail of a protected model, taken apart and checked as far as that goes without a key.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_crypto::signature::MAX_SIGNATURE_BYTES;
use onnxseal_onnx::tail;

use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::signature::Leaves;

/// Bytes of one chunk's tag.
pub(crate) const TAG_BYTES: usize = 16;

/// What the tail holds.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) manifest: Manifest,
    /// The manifest as it was read: what is authenticated.
    pub(crate) manifest_bytes: Vec<u8>,
    /// The tags of all chunks, one after the other.
    pub(crate) tags: Vec<u8>,
    pub(crate) mac: Vec<u8>,
    /// The publisher's signature, as it was read.
    pub(crate) signature: Option<String>,
    /// The wrapped data key, an armored age file.
    pub(crate) key: String,
}

impl Artifact {
    /// Takes `bytes`, a whole model file, apart; `path` is for errors. `None` when the model is
    /// not protected.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Option<Artifact>> {
        let malformed = |reason| Error::Metadata {
            path: path.to_owned(),
            reason,
        };
        let tail = tail::split(bytes).map_err(|source| Error::Model {
            path: path.to_owned(),
            source,
        })?;
        let Some(tail) = tail else { return Ok(None) };
        let entry = |key| {
            let value = tail
                .value(key)
                .ok_or_else(|| malformed(format!("{key} is missing")));
            value.map(str::as_bytes)
        };
        let manifest_bytes = entry(tail::MANIFEST)?;
        let manifest = Manifest::parse(manifest_bytes).map_err(malformed)?;
        if let Some(model) = manifest
            .files
            .first()
            .filter(|file| file.bytes != tail.start)
        {
            let (expected, found) = (model.bytes, tail.start);
            return Err(Error::Length {
                path: path.to_owned(),
                expected,
                found,
            });
        }
        let decode = |key| {
            let bytes = STANDARD.decode(entry(key)?);
            bytes.map_err(|error| malformed(format!("{key}: {error}")))
        };
        let (tags, mac) = (decode(tail::TAGS)?, decode(tail::MAC)?);
        if tags.len() as u64 != manifest.n_chunks().saturating_mul(TAG_BYTES as u64) {
            let n = manifest.n_chunks();
            return Err(malformed(format!(
                "{} bytes of tags for {n} chunks",
                tags.len()
            )));
        }
        let signature = tail.value(tail::SIG);
        if signature.is_some_and(|armored| armored.len() > MAX_SIGNATURE_BYTES) {
            return Err(malformed(format!(
                "{} of more than {MAX_SIGNATURE_BYTES} bytes",
                tail::SIG
            )));
        }
        let signature = signature.map(str::to_owned);
        let key = String::from_utf8_lossy(entry(tail::KEY)?).into_owned();
        Ok(Some(Artifact {
            manifest,
            manifest_bytes: manifest_bytes.to_vec(),
            tags,
            mac,
            signature,
            key,
        }))
    }

    /// Offset of the entries that can be replaced alone: see [`encode_end`].
    #[cfg(feature = "protect")]
    pub(crate) fn end_start(&self, bytes: &[u8]) -> u64 {
        bytes.len() as u64 - encode_end(self.signature.as_deref(), &self.key).len() as u64
    }

    /// What the publisher signs.
    pub(crate) fn message(&self, leaves: &Leaves) -> Result<String> {
        leaves.message(&self.manifest_bytes, &self.tags, &self.mac)
    }
}

/// The tail's bytes, of which `end` is what [`encode_end`] gives.
#[cfg(feature = "protect")]
pub(crate) fn encode(manifest: &[u8], tags: &[u8], mac: &[u8], end: &[u8]) -> Vec<u8> {
    let (tags, mac) = (STANDARD.encode(tags), STANDARD.encode(mac));
    let mut bytes = tail::encode(&[
        (tail::MANIFEST, manifest),
        (tail::TAGS, tags.as_bytes()),
        (tail::MAC, mac.as_bytes()),
    ]);
    bytes.extend_from_slice(end);
    bytes
}

/// The end of the tail, which neither key nor MAC covers: what can be replaced without the weights.
#[cfg(feature = "protect")]
pub(crate) fn encode_end(signature: Option<&str>, key: &str) -> Vec<u8> {
    let signature = signature.map(|armored| (tail::SIG, armored.as_bytes()));
    let entries = signature.into_iter().chain([(tail::KEY, key.as_bytes())]);
    tail::encode(&entries.collect::<Vec<_>>())
}
