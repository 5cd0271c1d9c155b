//! One walk over all chunks of a model, on all cores: it reads inputs, writes outputs, and computes
//! digests, the hashes that a signature covers and the check of the structure on the way.
//!
//! `make` and `open` decide which bytes are encrypted and who may open a model, and give a pass its
//! work.

pub(crate) mod chunks;
pub(crate) mod digest;
#[cfg(feature = "protect")]
pub(crate) mod gaps;
pub(crate) mod outputs;
pub(crate) mod publish;
#[cfg(feature = "protect")]
pub(crate) mod score;
pub(crate) mod signature;
pub(crate) mod source;
pub(crate) mod states;
pub(crate) mod structure;
pub(crate) mod tiers;
pub(crate) mod transfer;
