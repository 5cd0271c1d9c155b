//! Parses the tail of a protected model, and checks what needs no key.

use std::ops::Range;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_crypto::signature::MAX_SIGNATURE_BYTES;
use onnxseal_crypto::{DataKey, OpenKeys, TAG_BYTES};
use onnxseal_onnx::tail;

use crate::error::{Error, Result, metadata, model as model_error};
use crate::format::manifest::Manifest;
use crate::format::tiers::WrappedKeys;

const MAC_BYTES: usize = 32;

#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) manifest: Manifest,
    /// Where the manifest lies in the tail.
    manifest_at: Range<usize>,
    /// The tags of all chunks, one after the other; those of the first tier before those of the
    /// next.
    pub(crate) tags: Vec<u8>,
    /// The MAC of every tier, one after the other.
    pub(crate) mac: Vec<u8>,
    pub(crate) signature: Option<String>,
    pub(crate) keys: WrappedKeys,
    pub(crate) tail: Vec<u8>,
}

impl Artifact {
    /// Parses the tail of `bytes`, a whole model file, or returns `None` if the model is not
    /// protected. Errors name `path`.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Option<Artifact>> {
        if let Some(kind) = onnxseal_onnx::unprotectable(bytes) {
            let path = path.to_owned();
            return Err(Error::Unprotectable { path, kind });
        }
        let tail = tail::split(bytes).map_err(|source| model_error(path, bytes, source))?;
        let Some(tail) = tail else { return Ok(None) };
        let start = tail.start;
        let copy = bytes.get(start as usize..).unwrap_or_default().to_vec();
        Artifact::of_tail(path, copy, start).map(Some)
    }

    /// Parses `bytes`, the tail of a model file from offset `start` to its end.
    pub(crate) fn of_tail(path: &Path, bytes: Vec<u8>, start: u64) -> Result<Artifact> {
        let malformed = metadata(path);
        let tail = tail::split(&bytes).map_err(|source| model_error(path, &bytes, source))?;
        let tail = (tail.filter(|tail| tail.start == 0))
            .ok_or_else(|| malformed("it changed while it was being read".into()))?;
        let entry = |key| {
            let value = tail.value(key);
            value.ok_or_else(|| malformed(format!("{key} is missing")))
        };
        let manifest_bytes = entry(tail::MANIFEST)?.as_bytes();
        let manifest_start = manifest_bytes.as_ptr().addr() - bytes.as_ptr().addr();
        let manifest_at = manifest_start..manifest_start + manifest_bytes.len();
        let manifest = Manifest::parse(manifest_bytes).map_err(malformed)?;
        if let Some(model) = manifest.files().first().filter(|file| file.bytes != start) {
            let (expected, found) = (model.bytes, start);
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
        let (n, tiers) = (manifest.n_chunks(), manifest.n_tiers());
        let n_tags = n.saturating_mul(tiers.into());
        if tags.len() as u64 != n_tags.saturating_mul(TAG_BYTES as u64) {
            let bytes = tags.len();
            let reason = format!("{bytes} bytes of tags for {n} chunks of {tiers} tier(s)");
            return Err(malformed(reason));
        }
        if mac.len() != usize::from(tiers) * MAC_BYTES {
            let reason = format!("{} bytes of MACs for {tiers} tier(s)", mac.len());
            return Err(malformed(reason));
        }
        if tail.is_locked != manifest.is_locked() {
            let reason = if manifest.is_locked() {
                "the lock is missing"
            } else {
                "a lock, which its manifest excludes"
            };
            return Err(malformed(reason.into()));
        }
        let signature = tail.value(tail::SIG);
        if signature.is_some_and(|armored| armored.len() > MAX_SIGNATURE_BYTES) {
            return Err(malformed(format!(
                "{} of more than {MAX_SIGNATURE_BYTES} bytes",
                tail::SIG
            )));
        }
        let signature = signature.map(str::to_owned);
        let keys = WrappedKeys::of_tail(&tail, tiers).map_err(malformed)?;
        Ok(Artifact {
            manifest,
            manifest_at,
            tags,
            mac,
            signature,
            keys,
            tail: bytes,
        })
    }

    /// Returns the manifest as it was read: the MAC covers these bytes.
    pub(crate) fn manifest_bytes(&self) -> &[u8] {
        self.tail.get(self.manifest_at.clone()).unwrap_or_default()
    }

    /// Returns the keys that open chunks with `key`, of `tier`, if manifest, tags and MAC are authentic.
    pub(crate) fn open_keys(&self, tier: u8, key: &DataKey) -> Option<OpenKeys> {
        let tiers = (tier, self.manifest.n_tiers());
        (key.open_keys(tiers, self.manifest_bytes(), &self.tags, &self.mac)).ok()
    }

    /// Returns the tags of all chunks for `tier`, counted from 1.
    pub(crate) fn tags_of(&self, tier: u8) -> &[u8] {
        let len = self.tags.len() / usize::from(self.manifest.n_tiers());
        let start = len * usize::from(tier).saturating_sub(1);
        self.tags.get(start..start + len).unwrap_or_default()
    }

    /// Splits the tail in two. The second part can be replaced alone: see [`encode_end`].
    pub(crate) fn split_end(&self) -> (&[u8], &[u8]) {
        // `split` accepts a tail only as it is encoded here, so the end is as long as this.
        let end = encode_end(self.signature.as_deref(), &self.keys);
        let start = self.tail.len().saturating_sub(end.len());
        self.tail.split_at(start)
    }
}

/// The longest model file that protobuf readers accept, including ONNX Runtime's.
const MAX_MODEL_BYTES: u64 = i32::MAX as u64;

/// Fails if a tail of `tail_bytes` makes the model at `path`, of `model_bytes`, too long for
/// protobuf. Accepts a model that is too long without the tail.
pub(crate) fn check_len(path: &Path, model_bytes: u64, tail_bytes: usize) -> Result<()> {
    let len_bytes = model_bytes.saturating_add(tail_bytes as u64);
    if model_bytes <= MAX_MODEL_BYTES && len_bytes > MAX_MODEL_BYTES {
        let path = path.to_owned();
        return Err(Error::TooLong { path, len_bytes });
    }
    Ok(())
}

/// Encodes the tail, which ends with `end`, the result of [`encode_end`]. The manifest says whether
/// it has the lock.
pub(crate) fn encode(
    manifest: &[u8],
    tags: &[u8],
    mac: &[u8],
    is_locked: bool,
    end: &[u8],
) -> Vec<u8> {
    let (tags, mac) = (STANDARD.encode(tags), STANDARD.encode(mac));
    let entries = [
        (tail::MANIFEST, manifest),
        (tail::TAGS, tags.as_bytes()),
        (tail::MAC, mac.as_bytes()),
    ];
    let mut bytes = tail::encode(&entries, is_locked);
    bytes.extend_from_slice(end);
    bytes
}

/// Encodes the end of the tail. The MAC does not cover it, so it can be replaced alone.
pub(crate) fn encode_end(signature: Option<&str>, keys: &WrappedKeys) -> Vec<u8> {
    let signature = signature.map(|armored| (tail::SIG, armored.as_bytes()));
    let entries = signature.into_iter().chain(keys.entries());
    tail::encode(&entries.collect::<Vec<_>>(), false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_model_does_not_outgrow_protobuf() {
        let path = Path::new("m.onnx");
        check_len(path, MAX_MODEL_BYTES - 10, 10).unwrap();
        let error = check_len(path, MAX_MODEL_BYTES - 10, 11).unwrap_err();
        assert!(matches!(error, Error::TooLong { len_bytes, .. } if len_bytes == 1 << 31));
        // Programs cannot read a model of this length even without a tail.
        check_len(path, MAX_MODEL_BYTES + 1, 11).unwrap();
        check_len(path, u64::MAX, 11).unwrap();
    }
}
