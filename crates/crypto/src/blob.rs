//! A blob: bytes of any length, sealed by themselves under a name.
//!
//! ```text
//! offset  0              16            48                  48 + 1 MiB + 16
//!         +--------------+-------------+-------------------+-----+--------------+
//!         | magic        | salt        | chunk 0           | ... | last chunk   |
//!         +--------------+-------------+-------------------+-----+--------------+
//! chunk   | ciphertext (1 MiB; of the last 1 byte to 1 MiB, none in an empty blob) | tag (16) |
//! ```
//!
//! A chunk's nonce contains its number and whether it is the last, so chunks cannot be dropped,
//! moved or added. The key depends on the name, so no blob passes for another.

use zeroize::{Zeroize as _, Zeroizing};

use crate::backend::{Gcm, TAG_BYTES, Tag};
use crate::derive;
use crate::error::Error;
use crate::gather::{room_for, zeros};
use crate::secret::Secret;

const MAGIC: [u8; 16] = *b"onnxseal.blob.v1";
const SALT_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + SALT_BYTES;
/// Bytes of plaintext in each chunk except the last.
const CHUNK_BYTES: usize = 1 << 20;

/// The key of the blobs that belong to one artifact, zeroized on drop.
///
/// It opens no part of the artifact itself, and lasts as long as the data key.
pub struct BlobKey(pub(crate) Secret);

opaque_debug!(BlobKey);

impl BlobKey {
    /// Seals `plaintext` under `name`, with a new salt, so that all results differ.
    pub fn seal(&self, name: &str, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(Error::Randomness)?;
        self.seal_with(&salt, name, plaintext)
    }

    /// Opens a blob that was sealed under `name`.
    pub fn open(&self, name: &str, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut plaintext = Zeroizing::new(zeros(Self::plaintext_len(blob)?)?);
        self.open_into(name, blob, &mut plaintext)?;
        Ok(plaintext)
    }

    /// Opens a blob that was sealed under `name` into `plaintext`, which must have
    /// [`plaintext_len`](Self::plaintext_len) bytes. Nothing else may read `plaintext` before the
    /// call returns. If the blob is not authentic, `plaintext` is zeroized.
    ///
    /// # Errors
    /// [`Error::Unauthentic`] if it was sealed with another key or under another name, or was
    /// changed; [`Error::MalformedBlob`] if it is not a blob, [`Error::Misuse`] if `plaintext` has
    /// another length.
    pub fn open_into(&self, name: &str, blob: &[u8], plaintext: &mut [u8]) -> Result<(), Error> {
        let (salt, sealed) = parse(blob)?;
        if Self::plaintext_len(blob)? != plaintext.len() {
            let rule = "the plaintext of a blob has the length that the blob tells";
            return Err(Error::Misuse(rule));
        }
        let opened = self.open_chunks(salt, name, sealed, plaintext);
        if opened.is_err() {
            plaintext.zeroize();
        }
        opened
    }

    /// Returns the length of the plaintext of `blob`, provided that the blob is authentic.
    pub fn plaintext_len(blob: &[u8]) -> Result<usize, Error> {
        let (_, sealed) = parse(blob)?;
        let n_chunks = sealed.len().div_ceil(CHUNK_BYTES + TAG_BYTES);
        Ok(sealed.len() - n_chunks * TAG_BYTES)
    }

    fn seal_with(&self, salt: &[u8; 32], name: &str, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let gcm = self.gcm(salt, name)?;
        let n_chunks = plaintext.len().div_ceil(CHUNK_BYTES).max(1);
        let len = HEADER_BYTES + plaintext.len() + n_chunks * TAG_BYTES;
        // Zeroized on failure, when it may contain plaintext. Never reallocated.
        let mut blob = Zeroizing::new(room_for(len)?);
        blob.extend_from_slice(&MAGIC);
        blob.extend_from_slice(salt);
        for chunk in 0..n_chunks {
            let start = chunk * CHUNK_BYTES;
            let end = plaintext.len().min(start + CHUNK_BYTES);
            let nonce = derive::blob_nonce(chunk as u64, chunk + 1 == n_chunks);
            let at = blob.len();
            blob.extend_from_slice(&plaintext[start..end]);
            let Tag(tag) = gcm.seal(nonce, &[], &mut blob[at..])?;
            blob.extend_from_slice(&tag);
        }
        Ok(std::mem::take(&mut *blob))
    }

    fn open_chunks(
        &self,
        salt: &[u8; 32],
        name: &str,
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), Error> {
        let gcm = self.gcm(salt, name)?;
        let chunks = sealed.chunks(CHUNK_BYTES + TAG_BYTES).enumerate();
        let last = chunks.len() - 1;
        // The only chunk of an empty blob has no text.
        let texts = plaintext.chunks_mut(CHUNK_BYTES).chain([&mut [][..]]);
        for ((chunk, sealed), text) in chunks.zip(texts) {
            let (ciphertext, tag) = sealed.split_last_chunk().ok_or(Error::Unauthentic)?;
            let nonce = derive::blob_nonce(chunk as u64, chunk == last);
            gcm.open_into(nonce, &[], ciphertext, &Tag(*tag), text)?;
        }
        Ok(())
    }

    fn gcm(&self, salt: &[u8; 32], name: &str) -> Result<Gcm, Error> {
        Gcm::new(&derive::blob_key(&self.0, salt, name)?)
    }
}

/// Splits a blob into the salt and the chunks: at least one, each long enough for its tag.
fn parse(blob: &[u8]) -> Result<(&[u8; 32], &[u8]), Error> {
    let too_short = || Error::MalformedBlob("it is too short");
    let (magic, rest) = blob.split_first_chunk().ok_or_else(too_short)?;
    if *magic != MAGIC {
        return Err(Error::MalformedBlob("it begins otherwise"));
    }
    let (salt, sealed) = rest.split_first_chunk().ok_or_else(too_short)?;
    // Each plaintext has one encoding: only the empty blob has an empty last chunk.
    match sealed.len() % (CHUNK_BYTES + TAG_BYTES) {
        0 if !sealed.is_empty() => Ok((salt, sealed)),
        TAG_BYTES if sealed.len() == TAG_BYTES => Ok((salt, sealed)),
        last if last > TAG_BYTES => Ok((salt, sealed)),
        _ => Err(Error::MalformedBlob("it was cut off")),
    }
}

#[cfg(test)]
mod tests;
