//! The derivations, hashes and signatures of label encryption. Its group belongs to another crate.
//!
//! ```text
//! scalar P, C    HKDF-SHA256(ikm = seed, salt = none, info = "onnxseal/v1/labels/" ‖ P ‖ C, length = 64), reduced
//! hash P, X      SHA-512("onnxseal/v1/labels/" ‖ P ‖ 0 ‖ X)
//! digest P, X    SHA-256("onnxseal/v1/labels/" ‖ P ‖ 0 ‖ X)
//! ```
//!
//! `docs/LABELS.md` says what they are for.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use crate::derive::{label_digest as digest, label_hash as hash};

use crate::derive;
use crate::error::Error;
use crate::secret::Secret;

pub const SIGNATURE_BYTES: usize = 64;

/// The 32 random bytes from which all secrets of a label authority derive. Zeroized on drop.
#[derive(Debug)]
pub struct LabelSeed(Secret);

impl LabelSeed {
    pub fn generate() -> Result<LabelSeed, Error> {
        Secret::random().map(LabelSeed)
    }

    pub fn from_hex(digits: &str) -> Option<LabelSeed> {
        Secret::from_hex(digits).map(LabelSeed)
    }

    pub fn to_hex(&self) -> Zeroizing<String> {
        self.0.to_hex()
    }

    /// Derives 64 bytes that become a scalar of the group.
    pub fn scalar(&self, purpose: &str, context: &[u8]) -> Result<Zeroizing<[u8; 64]>, Error> {
        derive::label_scalar(&self.0, purpose, context)
    }

    pub fn signer(&self) -> Result<LabelSigner, Error> {
        let secret = derive::label_signing_key(&self.0)?;
        Ok(LabelSigner(SigningKey::from_bytes(secret.expose())))
    }
}

/// An Ed25519 key (RFC 8032). Zeroized on drop.
pub struct LabelSigner(SigningKey);

opaque_debug!(LabelSigner);

impl LabelSigner {
    /// Returns the public key, which identifies the authority.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

/// Verifies a signature by the public key. Refuses keys and signatures that are not canonical.
pub fn verify(
    public: &[u8; 32],
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), Error> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| Error::Unauthentic)?;
    key.verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| Error::Unauthentic)
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
