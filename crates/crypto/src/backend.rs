//! AES-256-GCM, and AES-256 in counter mode, behind one interface with two back ends that give
//! equal bytes.

#[cfg(feature = "aws-lc")]
mod aws_lc;
mod cipher;
#[cfg_attr(all(feature = "aws-lc", not(test)), allow(dead_code))]
mod rust_crypto;

#[cfg(feature = "aws-lc")]
pub(crate) use aws_lc::{AwsLc, AwsLcCtr};
pub(crate) use cipher::{Aead, Ctr};
pub use cipher::{TAG_BYTES, Tag};
#[cfg(any(not(feature = "aws-lc"), test))]
pub(crate) use rust_crypto::{RustCrypto, RustCryptoCtr};

/// The back end that the keys use.
#[cfg(feature = "aws-lc")]
pub(crate) type Chosen = AwsLc;
/// The back end that the keys use.
#[cfg(not(feature = "aws-lc"))]
pub(crate) type Chosen = RustCrypto;
/// The back end's counter mode.
#[cfg(feature = "aws-lc")]
pub(crate) type ChosenCtr = AwsLcCtr;
/// The back end's counter mode.
#[cfg(not(feature = "aws-lc"))]
pub(crate) type ChosenCtr = RustCryptoCtr;

/// Returns whether this processor has instructions for AES and for GCM's multiplication. Without
/// them, every encrypted byte takes many times as long.
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
    use crate::secret::Secret;

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
