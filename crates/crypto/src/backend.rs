//! AES-256-GCM ([`Gcm`]; NIST SP 800-38D, nonces of 96 bits, tags of 128) and AES-256 in counter
//! mode ([`Ctr`]; NIST SP 800-38A, a block is 12 bytes of a nonce and a counter, u32be), from one of
//! two back ends with the same calls and the same bytes.
//!
//! `Gcm::open` and `Gcm::open_into` leave no plaintext behind if they fail, but may overwrite what
//! they write to. `Ctr::apply` XORs the stream from a counter on, which does not pass 2^32.

#[cfg(feature = "aws-lc")]
mod aws_lc;
mod cipher;
#[cfg(any(not(feature = "aws-lc"), test))]
#[cfg_attr(feature = "aws-lc", allow(dead_code))]
pub(crate) mod rust_crypto;

#[cfg(feature = "aws-lc")]
pub(crate) use aws_lc::{Ctr, Gcm};
pub use cipher::{TAG_BYTES, Tag};
#[cfg(not(feature = "aws-lc"))]
pub(crate) use rust_crypto::{Ctr, Gcm};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::secret::Secret;

    /// AES-256-GCM encrypts in counter mode, from counter 2 on.
    #[test]
    fn counter_mode_is_that_of_gcm() {
        let key = Secret::copy(&[7; 32]);
        for len in [0, 1, 15, 16, 17, 100, 4096, 5000] {
            let text: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut sealed = text.clone();
            let gcm = rust_crypto::Gcm::new(&key).unwrap();
            gcm.seal([9; 12], b"", &mut sealed).unwrap();
            let mut streamed = text.clone();
            let ctr = rust_crypto::Ctr::new(&key).unwrap();
            ctr.apply([9; 12], 2, &mut streamed).unwrap();
            assert_eq!(streamed, sealed);
            let ctr = Ctr::new(&key).unwrap();
            ctr.apply([9; 12], 2, &mut streamed).unwrap();
            assert_eq!(streamed, text);
        }
    }
}
