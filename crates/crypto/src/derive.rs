//! All derivations and labels.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::digest::Output;
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::secret::Secret;

/// Names a chunk of an artifact; both numbers count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// The file: its index in the manifest's `files`.
    pub file: u32,
    /// The chunk within the file.
    pub chunk: u64,
}

/// The purpose of drawn numbers. Each purpose has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// The places of pixels in a block.
    Shuffle,
    /// Which places of a block are masked.
    Mask,
    /// An orthogonal matrix.
    Orthogonal,
}

const MAC_KEY_LABEL: &[u8] = b"onnxseal/v1/mac";
const CHUNK_KEY_LABEL: &[u8] = b"onnxseal/v1/chunk";
const BLOBS_KEY_LABEL: &[u8] = b"onnxseal/v1/blobs";
const BLOB_KEY_LABEL: &[u8] = b"onnxseal/v1/blob";
const TIER_LABEL: &[u8] = b"onnxseal/v1/tier";
const AUTH_KEY_LABEL: &[u8] = b"onnxseal/v1/auth";
const STREAM_KEY_LABEL: &[u8] = b"onnxseal/v1/stream";
const SHUFFLE_KEY_LABEL: &[u8] = b"onnxseal/v1/shuffle";
const LICENCE_LABEL: &[u8] = b"onnxseal/v1/licence";
const INPUT_SHUFFLE_LABEL: &[u8] = b"onnxseal/v1/inputs/shuffle";
const INPUT_MASK_LABEL: &[u8] = b"onnxseal/v1/inputs/mask";
const INPUT_FFX_LABEL: &[u8] = b"onnxseal/v1/inputs/ffx";
const INPUT_ORTHOGONAL_LABEL: &[u8] = b"onnxseal/v1/inputs/orthogonal";
const LABELS: &[u8] = b"onnxseal/v1/labels/";
const FINGERPRINT_LABEL: &[u8] = b"onnxseal/v1/fingerprint";

/// `mac key t = HKDF-SHA256(ikm = K_t, salt = none, info = "onnxseal/v1/mac", length = 32)`
pub(crate) fn mac_key(key: &Secret) -> Result<Secret, Error> {
    hkdf_sha256(key, None, MAC_KEY_LABEL)
}

/// `chunk key = HKDF-SHA256(ikm = K_1, salt = SHA-256(manifest), info = "onnxseal/v1/chunk",
/// length = 32)`
///
/// A changed manifest changes the key, so nobody can change which bytes are targets.
pub(crate) fn chunk_key(dek: &Secret, manifest: &[u8]) -> Result<Secret, Error> {
    hkdf_sha256(dek, Some(&Sha256::digest(manifest)), CHUNK_KEY_LABEL)
}

/// `nonce = u32be(file) ‖ u64be(chunk)`
pub(crate) fn nonce(at: ChunkId) -> [u8; 12] {
    let ChunkId { file, chunk } = at;
    let mut nonce = [0; 12];
    let (file_be, chunk_be) = nonce.split_at_mut(4);
    file_be.copy_from_slice(&file.to_be_bytes());
    chunk_be.copy_from_slice(&chunk.to_be_bytes());
    nonce
}

/// `K_(t-1) = HKDF-SHA256(ikm = K_t, salt = none, info = "onnxseal/v1/tier" ‖ u8(t - 1) ‖ u8(T),
/// length = 32)`, where `lower` is t - 1 and `tiers` is T
pub(crate) fn lower_tier(key: &Secret, lower: u8, tiers: u8) -> Result<Secret, Error> {
    hkdf_sha256(key, None, &[TIER_LABEL, &[lower, tiers]].concat())
}

/// The keys of a tier from 2 up, for its tags, its stream and its shuffles:
/// `HKDF-SHA256(ikm = K_t, salt = SHA-256(manifest), info = label, length = 32)`, with the labels
/// `onnxseal/v1/auth`, `onnxseal/v1/stream` and `onnxseal/v1/shuffle`
pub(crate) fn tier_keys(key: &Secret, manifest: &[u8]) -> Result<[Secret; 3], Error> {
    let salt = Sha256::digest(manifest);
    let derived = |label| hkdf_sha256(key, Some(&salt), label);
    Ok([
        derived(AUTH_KEY_LABEL)?,
        derived(STREAM_KEY_LABEL)?,
        derived(SHUFFLE_KEY_LABEL)?,
    ])
}

/// `blobs key = HKDF-SHA256(ikm = DEK, salt = none, info = "onnxseal/v1/blobs", length = 32)`
///
/// This key only opens and seals blobs that belong to a model, and no part of the model itself.
pub(crate) fn blobs_key(dek: &Secret) -> Result<Secret, Error> {
    hkdf_sha256(dek, None, BLOBS_KEY_LABEL)
}

/// `blob key = HKDF-SHA256(ikm = blobs key, salt, info = "onnxseal/v1/blob" ‖ u64be(length of
/// name) ‖ name, length = 32)`
///
/// The salt is random, so each blob has its own key, and so has each name.
pub(crate) fn blob_key(blobs_key: &Secret, salt: &[u8; 32], name: &str) -> Result<Secret, Error> {
    let name_len = (name.len() as u64).to_be_bytes();
    let info = [BLOB_KEY_LABEL, &name_len, name.as_bytes()].concat();
    hkdf_sha256(blobs_key, Some(salt), &info)
}

/// `HMAC-SHA256(licence key, text)`, where `licence key = HKDF-SHA256(ikm = keys, salt = none,
/// info = "onnxseal/v1/licence", length = 32)` and `keys` are the data keys of a licence, one after the
/// other
pub(crate) fn licence_mac(keys: &[u8], text: &[u8]) -> Result<Hmac<Sha256>, Error> {
    let hkdf = Hkdf::<Sha256>::new(None, keys);
    let key = Secret::try_new(|okm| hkdf.expand(LICENCE_LABEL, okm)).map_err(|_| Error::Backend)?;
    let mac = Hmac::<Sha256>::new_from_slice(key.expose()).map_err(|_| Error::Backend)?;
    Ok(mac.chain_update(text))
}

/// `key L = HKDF-SHA256(ikm = seed, salt = none, info = L, length = 32)`, where L is the label of
/// `draw`.
pub(crate) fn input_key(seed: &Secret, draw: Draw) -> Result<Secret, Error> {
    match draw {
        Draw::Shuffle => hkdf_sha256(seed, None, INPUT_SHUFFLE_LABEL),
        Draw::Mask => hkdf_sha256(seed, None, INPUT_MASK_LABEL),
        Draw::Orthogonal => hkdf_sha256(seed, None, INPUT_ORTHOGONAL_LABEL),
    }
}

/// `FFX's password = HKDF-SHA256(ikm = seed, salt = none, info = "onnxseal/v1/inputs/ffx", length = 32)`
pub(crate) fn ffx_key(seed: &Secret) -> Result<Secret, Error> {
    hkdf_sha256(seed, None, INPUT_FFX_LABEL)
}

/// 64 bytes that become a scalar:
/// `HKDF-SHA256(ikm = seed, salt = none, info = "onnxseal/v1/labels/" ‖ purpose ‖ context, length = 64)`
pub(crate) fn label_scalar(
    seed: &Secret,
    purpose: &str,
    context: &[u8],
) -> Result<Zeroizing<[u8; 64]>, Error> {
    let info = [LABELS, purpose.as_bytes(), context].concat();
    let mut okm = Zeroizing::new([0; 64]);
    Hkdf::<Sha256>::new(None, seed.expose())
        .expand(&info, &mut *okm)
        .map_err(|_| Error::Backend)?;
    Ok(okm)
}

/// `Ed25519 secret = HKDF-SHA256(ikm = seed, salt = none, info = "onnxseal/v1/labels/sign", length = 32)`
pub(crate) fn label_signing_key(seed: &Secret) -> Result<Secret, Error> {
    hkdf_sha256(seed, None, &[LABELS, b"sign"].concat())
}

/// `mark key = HKDF-SHA256(ikm = seed, salt = SHA-256(elements), info = "onnxseal/v1/fingerprint" ‖
/// u64be(length of customer) ‖ customer ‖ at, length = 32)`
///
/// The elements are those of the original tensor, so marks of two models never agree.
pub(crate) fn mark_key(
    seed: &Secret,
    digest: &[u8; 32],
    customer: &str,
    at: &str,
) -> Result<Secret, Error> {
    let len = (customer.len() as u64).to_be_bytes();
    let info = [FINGERPRINT_LABEL, &len, customer.as_bytes(), at.as_bytes()].concat();
    hkdf_sha256(seed, Some(digest), &info)
}

/// `SHA-512("onnxseal/v1/labels/" ‖ purpose ‖ 0 ‖ parts)`
pub fn label_hash(purpose: &str, parts: &[&[u8]]) -> [u8; 64] {
    labelled::<Sha512>(purpose, parts).into()
}

/// `SHA-256("onnxseal/v1/labels/" ‖ purpose ‖ 0 ‖ parts)`
pub fn label_digest(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    labelled::<Sha256>(purpose, parts).into()
}

fn labelled<D: Digest>(purpose: &str, parts: &[&[u8]]) -> Output<D> {
    let mut hash = D::new_with_prefix(LABELS);
    hash.update(purpose.as_bytes());
    hash.update([0]);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize()
}

/// `nonce = u32be(1 for the last chunk, otherwise 0) ‖ u64be(chunk)`
pub(crate) fn blob_nonce(chunk: u64, is_last: bool) -> [u8; 12] {
    nonce(ChunkId {
        file: u32::from(is_last),
        chunk,
    })
}

/// `MAC_t = HMAC-SHA256(mac key t, u64be(length of manifest) ‖ manifest ‖ tags ‖ MAC_(t+1) ‖ ... ‖
/// MAC_T)`, with the manifest taken in and the rest still to come. Zeroized on drop.
///
/// The manifest fixes the length of the tags, so the cut between them and the MACs cannot be moved.
#[derive(Clone)]
pub(crate) struct ManifestMac(Hmac<Sha256>);

impl ManifestMac {
    /// Takes in `u64be(length of manifest) ‖ manifest`.
    pub(crate) fn new(mac_key: &Secret, manifest: &[u8]) -> Result<Self, Error> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(mac_key.expose()).map_err(|_| Error::Backend)?;
        mac.update(&(manifest.len() as u64).to_be_bytes());
        mac.update(manifest);
        Ok(ManifestMac(mac))
    }

    /// Computes the MAC over the manifest, these tags, and the MACs of the tiers `above`.
    pub(crate) fn over(&self, tags: &[u8], above: &[u8]) -> [u8; 32] {
        let mac = self.0.clone().chain_update(tags).chain_update(above);
        mac.finalize().into_bytes().into()
    }

    /// Compares `expected` with the MAC over the manifest, these tags, and the MACs of the tiers
    /// `above`, in constant time.
    pub(crate) fn verify(self, tags: &[u8], above: &[u8], expected: &[u8]) -> Result<(), Error> {
        let mac = self.0.chain_update(tags).chain_update(above);
        mac.verify_slice(expected).map_err(|_| Error::Unauthentic)
    }
}

/// `HKDF-SHA256(ikm, salt, info = label, length = 32)`, RFC 5869
fn hkdf_sha256(ikm: &Secret, salt: Option<&[u8]>, label: &[u8]) -> Result<Secret, Error> {
    let hkdf = Hkdf::<Sha256>::new(salt, ikm.expose());
    Secret::try_new(|okm| hkdf.expand(label, okm)).map_err(|_| Error::Backend)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::tests::vectors;

    #[test]
    fn keys_and_mac_equal_the_vectors() {
        for artifact in vectors::artifacts() {
            let mac_key = mac_key(&artifact.dek).unwrap();
            assert_eq!(mac_key.expose()[..], artifact.mac_key);
            let chunk_key = chunk_key(&artifact.dek, &artifact.manifest).unwrap();
            assert_eq!(chunk_key.expose()[..], artifact.chunk_key);
            let mac = ManifestMac::new(&mac_key, &artifact.manifest).unwrap();
            assert_eq!(mac.over(&artifact.tags(), &[])[..], artifact.mac);
        }
    }

    #[test]
    fn keys_of_blobs_equal_the_vectors() {
        for blob in vectors::blobs() {
            let blobs_key = blobs_key(&blob.dek).unwrap();
            assert_eq!(blobs_key.expose()[..], blob.blobs_key);
            let blob_key = blob_key(&blobs_key, &blob.salt, &blob.name).unwrap();
            assert_eq!(blob_key.expose()[..], blob.blob_key);
        }
    }

    #[test]
    fn nonce_of_a_blob_marks_the_last_chunk() {
        assert_eq!(blob_nonce(5, false), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(blob_nonce(5, true), [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5]);
    }

    #[test]
    fn nonce_is_file_then_chunk_big_endian() {
        let at = ChunkId {
            file: 0x0102_0304,
            chunk: 0x0506_0708_090a_0b0c,
        };
        assert_eq!(nonce(at), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }
}
