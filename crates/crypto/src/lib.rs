//! Keys and their derivation, the AEAD over gathered runs of bytes, data keys wrapped to age
//! recipients, and publishers' signatures. This crate knows neither ONNX nor files.
//!
//! A [`DataKey`] seals one artifact: [`DataKey::seal_keys`] binds it to a manifest,
//! [`SealKeys::seal_chunk`] encrypts the targets of one chunk and authenticates the rest,
//! [`SealKeys::macs`] authenticates manifest and tags. Opening goes through [`DataKey::open_keys`],
//! which returns keys only after it has verified the MACs. A [`BlobKey`] seals other data
//! of an artifact, blob by blob. `docs/FORMAT.md` describes the format.
//!
//! The feature `aws-lc` chooses the AEAD back end. It changes speed, never a byte.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use onnxseal_crypto::DataKey;
//! use onnxseal_crypto::wrap::{Identities, Recipients, generate_identity};
//!
//! let identity = generate_identity();
//! let key = DataKey::generate()?;
//! let wrapped = Recipients::parse(&[identity.recipient()])?.wrap(&key)?;
//! assert!(wrapped.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
//! Identities::from(identity).unwrap(&wrapped)?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![allow(missing_docs)]

/// Implements `Debug` that shows a type's name, and of what it holds nothing or only the number.
macro_rules! opaque_debug {
    ($type:ident) => {
        opaque_debug!($type, |_| "..");
    };
    ($type:ident, $number:expr) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let number: fn(&$type) -> _ = $number;
                write!(f, "{}({})", stringify!($type), number(self))
            }
        }
    };
}

mod backend;
mod blob;
mod chunk;
mod derive;
mod error;
pub mod fingerprint;
mod gather;
pub mod inputs;
mod keys;
pub mod labels;
mod limited;
mod opens_with;
mod secret;
pub mod signature;
#[cfg(test)]
mod tests {
    pub(crate) mod vectors;
}
mod tier;
pub mod wrap;

pub use backend::{TAG_BYTES, Tag};
pub use blob::BlobKey;
pub use derive::ChunkId;
pub use error::{Error, NotAllowed};
pub use gather::{MAX_CHUNK_BYTES, Scratch};
pub use keys::{DataKey, OpenKeys, SealKeys, check_licence, licence_mac};
pub use opens_with::opens_with;
pub use tier::{Direction, MIN_SHUFFLED, TierKey};
