//! From a protected model and a key to the plaintext, in memory and in files.
//!
//! Plaintext leaves these calls only once every byte is authenticated. A device that only opens
//! models builds this module without `make` and `check`.

pub(crate) mod licensed;
pub(crate) mod model;
pub(crate) mod on_demand;
pub(crate) mod protected;
