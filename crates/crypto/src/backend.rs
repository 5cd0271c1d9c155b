//! AES-256-GCM behind one interface: two back ends, the same bytes.

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg_attr(all(feature = "aws-lc", not(test)), allow(dead_code))]
mod rust_crypto;

use crate::error::Error;
use crate::secret::Secret;

/// Bytes of an AES-GCM tag.
pub const TAG_BYTES: usize = 16;

/// The AES-GCM tag of a chunk; public, as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; TAG_BYTES]);

#[cfg(feature = "aws-lc")]
pub(crate) use aws_lc::AwsLc;
#[cfg(any(not(feature = "aws-lc"), test))]
pub(crate) use rust_crypto::RustCrypto;

/// The back end that the keys use.
#[cfg(feature = "aws-lc")]
pub(crate) type Chosen = AwsLc;
/// The back end that the keys use.
#[cfg(not(feature = "aws-lc"))]
pub(crate) type Chosen = RustCrypto;

/// `ciphertext, tag = AES-256-GCM(key, nonce, plaintext, aad)`, NIST SP 800-38D, with 96-bit
/// nonces and 128-bit tags.
pub(crate) trait Aead: Sized {
    /// Expands the key.
    fn new(key: &Secret) -> Result<Self, Error>;

    /// Encrypts `text` in place and returns the tag.
    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<Tag, Error>;

    /// Decrypts `text` in place. On failure `text` holds no plaintext, but may be overwritten.
    fn open(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &Tag) -> Result<(), Error>;

    /// Decrypts `ciphertext` into `plaintext`, which is of the same length. On failure
    /// `plaintext` holds none, but may be overwritten.
    fn open_into(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
        plaintext: &mut [u8],
    ) -> Result<(), Error>;
}
