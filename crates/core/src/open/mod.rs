//! From a protected model and a key to the plaintext, in memory and in files.
//!
//! No plaintext leaves this room before every byte has been authenticated. A device that only opens
//! models builds this room without `make` and `check`.

pub(crate) mod model;
pub(crate) mod protected;
#[cfg(feature = "protect")]
pub(crate) mod score;
pub(crate) mod signed;
