//! AES-256-GCM, and AES-256 in counter mode, behind one interface: two back ends, the same bytes.

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
pub(crate) use aws_lc::{AwsLc, AwsLcCtr};
#[cfg(any(not(feature = "aws-lc"), test))]
pub(crate) use rust_crypto::{RustCrypto, RustCryptoCtr};

/// The back end that the keys use.
#[cfg(feature = "aws-lc")]
pub(crate) type Chosen = AwsLc;
/// The back end that the keys use.
#[cfg(not(feature = "aws-lc"))]
pub(crate) type Chosen = RustCrypto;
/// The same in counter mode.
#[cfg(feature = "aws-lc")]
pub(crate) type ChosenCtr = AwsLcCtr;
/// The same in counter mode.
#[cfg(not(feature = "aws-lc"))]
pub(crate) type ChosenCtr = RustCryptoCtr;

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

/// `text ⊕ AES-256(key, block) ‖ AES-256(key, block + 1) ‖ ...`, NIST SP 800-38A, where a block is 12 bytes of
/// a nonce and a counter, u32be.
pub(crate) trait Ctr: Sized {
    /// Expands the key.
    fn new(key: &Secret) -> Result<Self, Error>;

    /// XORs the stream from `counter` on into `text`. The counter does not pass 2^32.
    fn apply(&self, nonce: [u8; 12], counter: u32, text: &mut [u8]) -> Result<(), Error>;
}

/// `nonce ‖ u32be(counter)`
fn block(nonce: [u8; 12], counter: u32) -> [u8; 16] {
    let mut block = [0; 16];
    let (prefix, rest) = block.split_at_mut(12);
    prefix.copy_from_slice(&nonce);
    rest.copy_from_slice(&counter.to_be_bytes());
    block
}

/// Whether this processor has instructions for AES and for the multiplication of its GCM. Without them,
/// every encrypted byte takes many times as long.
pub fn has_aes_instructions() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// AES-256-GCM encrypts in counter mode, from counter 2 on.
    #[test]
    fn counter_mode_is_that_of_gcm() {
        let key = Secret::copy(&[7; 32]);
        for len in [0, 1, 15, 16, 17, 100, 4096, 5000] {
            let text: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut sealed = text.clone();
            let gcm = RustCrypto::new(&key).unwrap();
            gcm.seal([9; 12], b"", &mut sealed).unwrap();
            let mut streamed = text.clone();
            let ctr = RustCryptoCtr::new(&key).unwrap();
            ctr.apply([9; 12], 2, &mut streamed).unwrap();
            assert_eq!(streamed, sealed);
            let ctr = ChosenCtr::new(&key).unwrap();
            ctr.apply([9; 12], 2, &mut streamed).unwrap();
            assert_eq!(streamed, text);
        }
    }
}
