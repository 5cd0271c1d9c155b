//! Keyed inputs: models that answer only to images that were transformed with a key.
//!
//! This is not encryption of images: `docs/INPUTS.md` begins with the limits.

#![forbid(unsafe_code)]

mod apply;
pub mod attack;
mod data;
mod error;
mod key;
pub mod rewrite;
mod values;

pub use apply::{Cipher, Images, ImagesMut, Scale, ValueType};
pub use data::{ArrayDone, EncryptOptions, Failed, MAX_LISTED, Report, encrypt};
pub use error::{Error, Result};
pub use key::{
    BlockMap, InputKey, Layout, MAX_BLOCK, MAX_BLOCK_VALUES, MAX_CHANNELS, MAX_ORTHOGONAL, Matrix,
    Normalisation, Order, Spec, Transform,
};
pub use onnxseal_rewrite::Refusal;
pub use onnxseal_store::Silent;
