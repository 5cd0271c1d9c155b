//! The seed of a fingerprint secret, and the keys of marks.
//!
//! ```text
//! mark key       HKDF-SHA256(ikm = seed, salt = SHA-256(elements of the original tensor),
//!                info = "onnxseal/v1/fingerprint" ‖ u64be(length of customer) ‖ customer ‖ at, length = 32)
//! stream n       ChaCha20(mark key, nonce = u64le(n)), as little-endian u32
//! ```
//!
//! `at` is the tensor's protobuf path. `crates/fingerprint` says what the streams are for.

use zeroize::Zeroizing;

use crate::derive;
use crate::error::Error;
use crate::secret::Secret;

/// The 32 random bytes from which all marks of a vendor derive. Zeroized on drop.
#[derive(Debug)]
pub struct MarkSeed(Secret);

impl MarkSeed {
    pub fn generate() -> Result<MarkSeed, Error> {
        Secret::random().map(MarkSeed)
    }

    pub fn from_hex(digits: &str) -> Option<MarkSeed> {
        Secret::from_hex(digits).map(MarkSeed)
    }

    pub fn to_hex(&self) -> Zeroizing<String> {
        self.0.to_hex()
    }

    /// Returns the key of a customer's mark in the tensor at `at`, with elements of this digest.
    pub fn key(
        &self,
        digest: &[u8; 32],
        customer: &str,
        at: &str,
    ) -> Result<Zeroizing<[u8; 32]>, Error> {
        let key = derive::mark_key(&self.0, digest, customer, at)?;
        Ok(Zeroizing::new(*key.expose()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_are_what_another_program_derives() {
        let seed =
            MarkSeed::from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
        // SHA-256("elements")
        let mut digest = [0; 32];
        base16ct::lower::decode(
            "b0b17893a51343979e2090deee730538430cff2a88498e3885eb0ba179c58b6b",
            &mut digest,
        )
        .unwrap();
        let key = seed
            .unwrap()
            .key(&digest, "Société", "graph.initializer[3]");
        assert_eq!(
            base16ct::lower::encode_string(&*key.unwrap()),
            "867e181ae102f34423de99e448deb8e5321838f6f58dea2eb7a9c8208fdc93b8"
        );
    }
}
