//! Keyed inputs: models that answer only to images that were transformed with a key.
//!
//! This is not encryption of images: `docs/INPUTS.md` begins with the limits.

#![forbid(unsafe_code)]
// Only this workspace uses it: docs say what names do not.
#![allow(missing_docs)]

mod apply;
#[cfg(feature = "vendor")]
pub mod attack;
#[cfg(feature = "vendor")]
mod data;
mod error;
mod key;
#[cfg(feature = "vendor")]
pub mod rewrite;
#[cfg(feature = "vendor")]
mod values;

pub use apply::{Cipher, Images, ImagesMut, Scale, ValueType};
#[cfg(feature = "vendor")]
pub use data::{ArrayDone, EncryptOptions, Failed, MAX_LISTED, Report, encrypt};
pub use error::{Error, Result};
pub use key::{
    BlockMap, InputKey, Layout, MAX_BLOCK, MAX_BLOCK_VALUES, MAX_CHANNELS, MAX_ORTHOGONAL,
    Normalisation, Order, Spec, Transform,
};
#[cfg(feature = "vendor")]
pub use onnxseal_rewrite::Refusal;
pub use onnxseal_store::Silent;
