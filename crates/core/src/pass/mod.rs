//! One walk over all chunks of a model, on all cores: what is read, what is written, and what is
//! computed on the way: digests, the leaves of a signature, the check of the structure.
//!
//! Nothing here decides what is encrypted or who may open a model: `make` and `open` do, and give a
//! pass its work.

pub(crate) mod chunks;
pub(crate) mod digest;
pub(crate) mod outputs;
pub(crate) mod progress;
pub(crate) mod publish;
pub(crate) mod signature;
pub(crate) mod source;
#[cfg(feature = "protect")]
pub(crate) mod structure;
pub(crate) mod transfer;
