//! ONNX files as bytes: finds every weight tensor, and what else a tool must know to change files
//! in place.
//!
//! [`locate`] maps a model file without reading its weights, and [`skim`] fetches only the bytes
//! for that. [`detail`] reads what the map leaves out. [`external`] finds the files beside it, and
//! [`edit`] renames them. [`tail`] writes and finds the tail of a protected model. [`may_be_model`]
//! and [`Model::has_content`] tell models from other files, and [`foreign`] names the kind of those.
//! [`proto`] has ONNX's messages as generated types, through which no file is ever re-encoded.
//!
//! No file makes this crate panic, or take memory beyond [`Limits`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use onnxseal_onnx::{Limits, locate};
//!
//! let bytes = std::fs::read("../../fixtures/models/digits_cnn.onnx")?;
//! let model = locate(&bytes, &Limits::default())?;
//! let kernels = model.tensors.iter().filter(|tensor| tensor.dims.len() == 4);
//! assert!(kernels.count() > 0);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![allow(missing_docs)]

pub mod detail;
pub mod edit;
pub mod external;
pub mod model;
mod names_files;
pub mod proto;
pub mod tail;

mod ambiguity;
mod data_type;
mod error;
mod foreign;
mod id;
mod limits;
mod locate;
mod names;
mod schema;
mod skim;
mod sniff;
mod wire;
mod write;

pub use data_type::element_bits;
pub use error::{At, Error, Fault, excerpt};
pub use foreign::{Foreign, foreign, unprotectable};
pub use limits::Limits;
pub use locate::locate;
pub use model::Model;
pub use names::{Name, Names};
pub use skim::{Skim, skim};
pub use sniff::may_be_model;
