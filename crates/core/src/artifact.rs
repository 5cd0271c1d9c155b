//! The tail of a protected model, taken apart and checked as far as that goes without a key.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_onnx::tail;

use crate::error::{Error, Result};
use crate::manifest::Manifest;

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
        if tail.value(tail::SIG).is_some() {
            return Err(malformed(format!("{} is not supported", tail::SIG)));
        }
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
        let key = String::from_utf8_lossy(entry(tail::KEY)?).into_owned();
        Ok(Some(Artifact {
            manifest,
            manifest_bytes: manifest_bytes.to_vec(),
            tags,
            mac,
            key,
        }))
    }

    /// Length of the original model file in bytes.
    #[cfg(feature = "protect")]
    pub(crate) fn model_bytes(&self) -> u64 {
        self.manifest.files.first().map_or(0, |model| model.bytes)
    }

    /// The tail's bytes.
    #[cfg(feature = "protect")]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (tags, mac) = (STANDARD.encode(&self.tags), STANDARD.encode(&self.mac));
        tail::encode(&[
            (tail::MANIFEST, &self.manifest_bytes),
            (tail::TAGS, tags.as_bytes()),
            (tail::MAC, mac.as_bytes()),
            (tail::KEY, self.key.as_bytes()),
        ])
    }
}
