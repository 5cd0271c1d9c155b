//! Opens protected ONNX models straight into ONNX Runtime.
//!
//! [`Model::open`] authenticates every byte of a model and decrypts it, in memory. From there it
//! goes into a session ([`Model::into_session`], with the feature `ort`), or into any other program
//! that takes the result of [`Model::prepare`]; and its parts can be read. Nothing decrypted is
//! written to a file.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//!
//! use onnxseal_runtime::{Identities, Model};
//!
//! let fixtures = Path::new("../../fixtures/sealed");
//! let identities = Identities::read(std::fs::File::open(fixtures.join("keys/id.txt"))?, "id.txt")?;
//! let model = Model::open(fixtures.join("valid/digits_cnn.onnx"), &identities)?;
//! assert!(model.tensors().len() > 0);
//! // With ONNX Runtime: let session = model.into_session(ort::session::Session::builder()?)?;
//! # Ok(())
//! # }
//! ```
//!
//! `docs/RUNTIME.md` explains why this is as fast as opening a plain model, and what it costs.

#[cfg(feature = "ep-context")]
pub mod ep_context;
mod error;
mod model;
mod nothing;
mod prepare;
#[cfg(feature = "ort")]
mod session;
mod sharing;

pub use error::{Error, Result};
pub use model::{Model, Options, PlaintextOnDisk, Tensor};
pub use onnxseal_core::{
    Access, AllowedSigners, Bytes, Edition, ErrorKind, Identities, InMemory, Location, NoPrompt,
    Passphrase, Progress, Prompt, Requirements, SignedBy, Silent,
};
pub use onnxseal_onnx::proto::tensor_proto::DataType;
pub use prepare::Prepared;
#[cfg(feature = "ort")]
pub use session::load;
#[cfg(feature = "c-api")]
pub use sharing::element_type;
pub use sharing::{PROCESSORS, Sharing, WEIGHTS_ENTRY, WRITING_ENTRIES};
