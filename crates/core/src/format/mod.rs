//! The metadata of a protected model: the manifest and its rules, the tail that holds it, the spans
//! and claims in it.
//!
//! This code turns bytes into legal values, and back. Files, keys and chunks belong to other
//! modules.

pub(crate) mod artifact;
pub(crate) mod claims;
pub(crate) mod dates;
pub(crate) mod licence;
pub mod manifest;
pub(crate) mod spans;
pub(crate) mod tiers;
