//! What callers name: key files, policies, and all files that a call reads.

pub(crate) mod keys;
#[cfg(feature = "protect")]
pub(crate) mod policy;
#[cfg(feature = "protect")]
pub(crate) mod reads;
