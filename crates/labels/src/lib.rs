//! Label encryption: classifiers whose answers only key holders can read, and which identify leaked
//! keys.
//!
//! An [`Authority`] protects a classifier once: its last layer answers with shares instead of
//! classes, and an encrypted [`Table`] in the model says which class each share belongs to. Each
//! user has their own [`UserKey`]; a [`Decoder`] turns answers into logits. [`traces`] tell whose
//! key a service uses. `docs/LABELS.md` has the scheme, its sources, and its limits.

#![forbid(unsafe_code)]
// Only this workspace uses it: docs say what names do not.
#![allow(missing_docs)]

#[cfg(feature = "engine")]
pub mod attack;
#[cfg(feature = "vendor")]
mod authority;
#[cfg(feature = "engine")]
mod candidates;
mod decode;
#[cfg(feature = "engine")]
pub mod decoding;
#[cfg(feature = "vendor")]
mod draw;
#[cfg(feature = "engine")]
pub mod encrypt;
mod error;
#[cfg(feature = "vendor")]
mod exponents;
mod group;
#[cfg(feature = "vendor")]
pub mod head;
mod key;
#[cfg(feature = "engine")]
pub mod layer_run;
#[cfg(feature = "vendor")]
mod protect;
#[cfg(feature = "engine")]
mod service;
#[cfg(feature = "vendor")]
mod shares;
mod stored;
mod table;
#[cfg(all(test, feature = "vendor"))]
mod tests;
#[cfg(feature = "vendor")]
pub mod traces;

#[cfg(feature = "vendor")]
pub use authority::{Authority, Protected, SHOWN, Suspect, TraceInput, TraceRow, Verdict};
pub use decode::{Decoder, classes, softmax};
pub use error::{Error, Result};
pub use key::UserKey;
#[cfg(feature = "vendor")]
pub use protect::{DEFAULT_CODEWORDS, Plan, attach, protect, targets};
pub use table::{Description, KEY, MAX_CODEWORDS, MAX_ROWS, RowKind, Table};
