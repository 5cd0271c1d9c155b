//! The interface of a back end: AES-256-GCM, and AES-256 in counter mode.

use crate::error::Error;
use crate::secret::Secret;

/// Bytes of an AES-GCM tag.
pub const TAG_BYTES: usize = 16;

/// The AES-GCM tag of a chunk, which is public: it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; TAG_BYTES]);

/// `ciphertext, tag = AES-256-GCM(key, nonce, plaintext, aad)`, NIST SP 800-38D, with 96-bit
/// nonces and 128-bit tags.
pub(crate) trait Aead: Sized {
    /// Expands the key.
    fn new(key: &Secret) -> Result<Self, Error>;

    /// Encrypts `text` in place and returns the tag.
    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<Tag, Error>;

    /// Decrypts `text` in place. On failure `text` contains no plaintext, but may be overwritten.
    fn open(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &Tag) -> Result<(), Error>;

    /// Decrypts `ciphertext` into `plaintext`, which has its length. On failure `plaintext`
    /// contains none, but may be overwritten.
    fn open_into(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
        plaintext: &mut [u8],
    ) -> Result<(), Error>;
}

/// `text ⊕ AES-256(key, block) ‖ AES-256(key, block + 1) ‖ ...`, NIST SP 800-38A, where a block is
/// 12 bytes of a nonce and a counter, u32be.
pub(crate) trait Ctr: Sized {
    /// Expands the key.
    fn new(key: &Secret) -> Result<Self, Error>;

    /// XORs the stream from `counter` on into `text`. The counter does not pass 2^32.
    fn apply(&self, nonce: [u8; 12], counter: u32, text: &mut [u8]) -> Result<(), Error>;
}

/// `nonce ‖ u32be(counter)`
pub(super) fn block(nonce: [u8; 12], counter: u32) -> [u8; 16] {
    let mut block = [0; 16];
    let (prefix, rest) = block.split_at_mut(12);
    prefix.copy_from_slice(&nonce);
    rest.copy_from_slice(&counter.to_be_bytes());
    block
}
