//! The data key, and the keys derived from it for sealing and for opening.

use std::ops::Range;

use hmac::Mac as _;
use zeroize::Zeroizing;

use crate::backend::{Ctr, Gcm, Tag};
use crate::blob::BlobKey;
use crate::chunk;
use crate::derive::{self, ChunkId, ManifestMac};
use crate::error::Error;
use crate::gather::Scratch;
use crate::secret::Secret;
use crate::tier::TierKey;

const MAC_BYTES: usize = 32;

/// The random key of one artifact (DEK), 32 bytes, zeroized on drop. Of an artifact with tiers it is
/// the highest tier's, and the keys of the lower tiers follow from it.
///
/// It leaves this crate only wrapped, by [`Recipients::wrap`](crate::wrap::Recipients::wrap).
pub struct DataKey(pub(crate) Secret);

opaque_debug!(DataKey);

impl DataKey {
    pub fn generate() -> Result<DataKey, Error> {
        Secret::random().map(DataKey)
    }

    /// Derives the keys that seal an artifact of `tiers` tiers (at least 1) with this manifest.
    ///
    /// Seal only one artifact with a data key: sealing a chunk twice with different bytes would
    /// repeat a nonce.
    pub fn seal_keys(&self, manifest: &[u8], tiers: u8) -> Result<SealKeys, Error> {
        let keys = self.with_lower(tiers, tiers)?;
        let mac = |DataKey(key): &DataKey| ManifestMac::new(&derive::mac_key(key)?, manifest);
        let upper = |DataKey(key): &DataKey| TierKey::new(&derive::tier_keys(key, manifest)?);
        Ok(SealKeys {
            first: Gcm::new(&derive::chunk_key(&keys[0].0, manifest)?)?,
            upper: keys[1..].iter().map(upper).collect::<Result<_, Error>>()?,
            macs: keys.iter().map(mac).collect::<Result<_, Error>>()?,
        })
    }

    /// Verifies, in constant time, the MACs of the tiers from 1 up to `tier`, whose key this is,
    /// each over manifest, tags and the MACs of the tiers above it. This proves that the keys of
    /// the lower tiers derive from this key, and that nobody without a key of `tier` or a higher
    /// one changed a MAC. Then derives the keys that open this tier and all lower ones. `macs` has
    /// one MAC for each of `tiers`, the first tier's first.
    pub fn open_keys(
        &self,
        (tier, tiers): (u8, u8),
        manifest: &[u8],
        tags: &[u8],
        macs: &[u8],
    ) -> Result<OpenKeys, Error> {
        if macs.len() != usize::from(tiers) * MAC_BYTES {
            return Err(Error::Unauthentic);
        }
        let keys = self.with_lower(tier, tiers)?;
        let mut from_own = macs;
        for DataKey(key) in &keys {
            let (mac, above) = (from_own.split_at_checked(MAC_BYTES)).ok_or(Error::Unauthentic)?;
            ManifestMac::new(&derive::mac_key(key)?, manifest)?.verify(tags, above, mac)?;
            from_own = above;
        }
        let mut secrets = vec![derive::chunk_key(&keys[0].0, manifest)?];
        for DataKey(key) in &keys[1..] {
            secrets.extend(derive::tier_keys(key, manifest)?);
        }
        Secret::keep(&secrets).map(OpenKeys)
    }

    /// Returns the keys of the tiers from 1 up to `tier` of `tiers`, whose key this is, the least
    /// first.
    pub fn with_lower(&self, tier: u8, tiers: u8) -> Result<Vec<DataKey>, Error> {
        let mut keys = vec![DataKey(Secret::copy(self.expose()))];
        for tier in (2..=tier).rev() {
            let lower = derive::lower_tier(&keys[0].0, tier - 1, tiers)?;
            keys.insert(0, DataKey(lower));
        }
        Ok(keys)
    }

    pub fn blob_key(&self) -> Result<BlobKey, Error> {
        let mut kept = Secret::keep(&[derive::blobs_key(&self.0)?])?;
        kept.pop().map(BlobKey).ok_or(Error::Backend)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// Copies the bytes of all keys, in their order.
pub(crate) fn joined(keys: &[&DataKey]) -> Zeroizing<Vec<u8>> {
    // Allocated once: a vector that grows leaves secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(32 * keys.len()));
    keys.iter()
        .for_each(|key| bytes.extend_from_slice(key.expose()));
    bytes
}

/// Computes the MAC of a licence with these keys over its `text`.
pub fn licence_mac(keys: &[&DataKey], text: &[u8]) -> Result<[u8; 32], Error> {
    let mac = derive::licence_mac(&joined(keys), text)?;
    Ok(mac.finalize().into_bytes().into())
}

/// Compares `expected` with [`licence_mac`], in constant time.
pub fn check_licence(keys: &[&DataKey], text: &[u8], expected: &[u8; 32]) -> Result<(), Error> {
    let mac = derive::licence_mac(&joined(keys), text)?;
    mac.verify_slice(expected).map_err(|_| Error::Unauthentic)
}

/// Seals the chunks of a new artifact, and its manifest and tags.
pub struct SealKeys {
    first: Gcm,
    /// The keys of the tiers from 2 up.
    pub upper: Vec<TierKey>,
    /// By tier, the first tier's first.
    macs: Vec<ManifestMac>,
}

opaque_debug!(SealKeys);

impl SealKeys {
    /// Encrypts the targets of the first tier in a chunk in place, and authenticates all its other
    /// bytes with them.
    ///
    /// `targets` are sorted, disjoint, non-empty ranges of `bytes`.
    pub fn seal_chunk(
        &self,
        at: ChunkId,
        bytes: &mut [u8],
        targets: &[Range<usize>],
        scratch: &mut Scratch,
    ) -> Result<Tag, Error> {
        chunk::in_parts(bytes, targets, scratch, |clear, text| {
            self.first.seal(derive::nonce(at), clear, text)
        })
    }

    /// Computes the MACs of all tiers, one after the other: each over the manifest for which these
    /// keys were derived, all tags, and the MACs of the tiers above.
    pub fn macs(&self, tags: &[u8]) -> Vec<u8> {
        let mut macs = Vec::new();
        for mac in self.macs.iter().rev() {
            macs = [&mac.over(tags, &macs)[..], &macs].concat();
        }
        macs
    }
}

/// Opens the chunks of an artifact, up to a tier whose MAC was verified.
///
/// The keys lie in a page that stays out of core dumps and, as far as the process may lock memory,
/// out of swap space: the chunk key, then three keys of each tier from 2 up. They are expanded for
/// each chunk, in memory that is cleared after it.
pub struct OpenKeys(Vec<Secret>);

opaque_debug!(OpenKeys);

impl OpenKeys {
    /// Verifies a chunk by the tag of this tier, and decrypts the targets of the first tier in
    /// place. [`OpenKeys::upper`] opens those of the tiers from 2 up.
    ///
    /// If the tag is wrong ([`Error::Unauthentic`]), the targets contain no plaintext, but may be
    /// overwritten. All other bytes are unchanged.
    pub fn open_chunk(
        &self,
        at: ChunkId,
        bytes: &mut [u8],
        targets: &[Range<usize>],
        tag: &Tag,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let (chunk_key, upper) = self.parts()?;
        let nonce = derive::nonce(at);
        if let Some([auth, ..]) = upper.last() {
            // This tag covers all bytes of the chunk, so that counter mode is enough for the targets.
            // AES-256-GCM is that from counter 2 on.
            Gcm::new(auth)?.open(nonce, bytes, &mut [], tag)?;
            let ctr = Ctr::new(chunk_key)?;
            return chunk::on_targets(bytes, targets, scratch, |text| ctr.apply(nonce, 2, text));
        }
        let gcm = Gcm::new(chunk_key)?;
        chunk::in_parts(bytes, targets, scratch, |clear, text| {
            gcm.open(nonce, clear, text, tag)
        })
    }

    /// Expands the keys of the tiers from 2 up to `tier`, for a chunk.
    pub fn upper(&self, tier: u8) -> Result<Vec<TierKey>, Error> {
        let (_, upper) = self.parts()?;
        let upper = upper.iter().take(usize::from(tier).saturating_sub(1));
        upper.map(TierKey::new).collect()
    }

    fn parts(&self) -> Result<(&Secret, &[[Secret; 3]]), Error> {
        let (chunk_key, upper) = self.0.split_first().ok_or(Error::Backend)?;
        Ok((chunk_key, upper.as_chunks().0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::tests::vectors;

    #[test]
    fn artifacts_of_the_vectors_are_sealed_and_opened() {
        let mut scratch = Scratch::new();
        for artifact in vectors::artifacts() {
            let tags = artifact.tags();
            let key = DataKey(artifact.dek);
            let seal = key.seal_keys(&artifact.manifest, 1).unwrap();
            assert_eq!(seal.macs(&tags), artifact.mac);
            let open = key
                .open_keys((1, 1), &artifact.manifest, &tags, &artifact.mac)
                .unwrap();
            for chunk in &artifact.chunks {
                let mut bytes = chunk.plain.clone();
                let tag = seal.seal_chunk(chunk.at, &mut bytes, &chunk.targets, &mut scratch);
                assert_eq!(tag.unwrap(), chunk.tag);
                chunk.assert_sealed(&bytes);
                open.open_chunk(
                    chunk.at,
                    &mut bytes,
                    &chunk.targets,
                    &chunk.tag,
                    &mut scratch,
                )
                .unwrap();
                assert_eq!(bytes, chunk.plain, "{}", chunk.label);

                let forged = Tag(chunk.tag.0.map(|byte| !byte));
                let fault =
                    open.open_chunk(chunk.at, &mut bytes, &chunk.targets, &forged, &mut scratch);
                assert!(matches!(fault, Err(Error::Unauthentic)));
            }
        }
    }

    #[test]
    fn a_changed_manifest_tag_or_mac_gives_no_key() {
        let key = DataKey::generate().unwrap();
        let (manifest, tags) = (b"{\"format\":1}".to_vec(), [5; 32].to_vec());
        let mac = key.seal_keys(&manifest, 1).unwrap().macs(&tags);
        key.open_keys((1, 1), &manifest, &tags, &mac).unwrap();

        let assert_refused = |key: &DataKey, manifest: &[u8], tags: &[u8], mac: &[u8]| {
            let fault = key.open_keys((1, 1), manifest, tags, mac);
            assert!(matches!(fault, Err(Error::Unauthentic)), "{fault:?}");
        };
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..8 * manifest.len() {
            assert_refused(&key, &flipped(&manifest, bit), &tags, &mac);
        }
        for bit in 0..8 * tags.len() {
            assert_refused(&key, &manifest, &flipped(&tags, bit), &mac);
        }
        for bit in 0..8 * mac.len() {
            assert_refused(&key, &manifest, &tags, &flipped(&mac, bit));
        }
        for len in 0..mac.len() {
            assert_refused(&key, &manifest, &tags, &mac[..len]);
        }
        assert_refused(&key, &manifest, &tags, &[&mac[..], &[0]].concat());
        // The boundary between manifest and tags does not move.
        let longer = [&manifest[..], &tags[..16]].concat();
        assert_refused(&key, &longer, &tags[16..], &mac);
        assert_refused(&DataKey::generate().unwrap(), &manifest, &tags, &mac);
    }

    #[test]
    fn keys_differ_and_print_nothing() {
        let (one, two) = (DataKey::generate().unwrap(), DataKey::generate().unwrap());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(format!("{one:?}"), "DataKey(..)");
        assert_eq!(
            format!("{:?}", one.seal_keys(b"", 1).unwrap()),
            "SealKeys(..)"
        );
    }

    #[test]
    fn keys_are_shared_by_threads() {
        fn assert_shared<T: Send + Sync>() {}
        assert_shared::<(DataKey, SealKeys, OpenKeys, BlobKey, Scratch, Error)>();
        assert_shared::<(
            crate::wrap::Recipients,
            crate::wrap::Identities,
            crate::wrap::Identity,
        )>();
    }
}
