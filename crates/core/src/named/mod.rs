//! Files that callers name: keys, policies, and all others that a call reads.

pub(crate) mod keys;
#[cfg(feature = "protect")]
pub(crate) mod policy;
#[cfg(feature = "protect")]
pub(crate) mod reads;
