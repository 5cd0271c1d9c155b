//! The metadata of a protected model: the manifest and its rules, the tail that holds it, the spans and
//! claims in it.
//!
//! Bytes in, legal values out, and back. No code here opens a file, knows a key, or walks over a model's
//! chunks.

pub(crate) mod artifact;
pub(crate) mod claims;
pub mod manifest;
pub(crate) mod spans;
pub(crate) mod tiers;
