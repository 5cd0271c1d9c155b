//! One walk over all chunks of a model, on all cores: inputs, outputs, and the values computed on the
//! way, such as digests, the leaves of a signature and the check of the structure.
//!
//! Nothing here decides which bytes are encrypted or who may open a model. `make` and `open` decide that,
//! and give a pass its work.

pub(crate) mod chunks;
pub(crate) mod digest;
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
