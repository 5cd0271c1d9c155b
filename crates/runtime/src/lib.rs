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
//! A model that takes keyed images (`docs/INPUTS.md`) runs in a [`KeyedSession`], with the feature `inputs`. It is fed what
//! the original is fed:
//!
//! ```no_run
//! # #[cfg(feature = "inputs")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//!
//! use onnxseal_runtime::{Identities, InputKey, KeyedSession, Model};
//! use ort::value::TensorRef;
//!
//! let environment = onnxseal_runtime::load()?.build()?;
//! let identities = Identities::read(std::fs::File::open("id.txt")?, "id.txt")?;
//! let model = Model::open(Path::new("sealed.onnx"), &identities)?;
//! let session = model.into_session(ort::session::Session::builder(&environment)?)?;
//! let key = InputKey::open(Path::new("key.txt"), None)?;
//! let mut session = KeyedSession::new(session, key)?;
//! let images = vec![0.5_f32; 3 * 224 * 224];
//! let images = TensorRef::from_array_view(([1, 3, 224, 224], &images[..]))?;
//! let outputs = session.run(ort::inputs![images])?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "inputs"))]
//! # fn main() {}
//! ```
//!
//! The answers of a model whose labels are protected (`docs/LABELS.md`) become those of the original with [`SessionLabels`] and a
//! [`UserKey`], with the feature `labels`:
//!
//! ```no_run
//! # #[cfg(feature = "labels")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//!
//! use onnxseal_runtime::{Identities, Model, SessionLabels, UserKey};
//! use ort::session::Session;
//! use ort::value::TensorRef;
//!
//! let environment = onnxseal_runtime::load()?.build()?;
//! let identities = Identities::read(std::fs::File::open("id.txt")?, "id.txt")?;
//! let model = Model::open(Path::new("sealed.onnx"), &identities)?;
//! let mut session = model.into_session(Session::builder(&environment)?)?;
//! let key = UserKey::open(Path::new("acme.key"), None)?;
//! let mut labels = SessionLabels::new(&session, &key, Session::builder(&environment)?)?;
//! let images = vec![0.5_f32; 3 * 224 * 224];
//! let images = TensorRef::from_array_view(([1, 3, 224, 224], &images[..]))?;
//! let outputs = labels.decode(session.run(ort::inputs![images])?)?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "labels"))]
//! # fn main() {}
//! ```
//!
//! `docs/RUNTIME.md` explains why this is as fast as opening a plain model, and what it costs.

#[cfg(feature = "ep-context")]
pub mod ep_context;
mod error;
#[cfg(feature = "inputs")]
mod keyed;
#[cfg(feature = "labels")]
mod labels;
mod model;
mod nothing;
mod prepare;
#[cfg(feature = "ort")]
mod session;
mod sharing;

pub use error::{Error, Result};
#[cfg(feature = "inputs")]
pub use keyed::KeyedSession;
#[cfg(feature = "labels")]
pub use labels::SessionLabels;
pub use model::{Model, Options, PlaintextOnDisk, Tensor};
pub use onnxseal_core::{
    Access, AllowedSigners, Bytes, Edition, ErrorKind, Identities, InMemory, Location, NoPrompt,
    Passphrase, Progress, Prompt, Requirements, SignedBy, Silent,
};
#[cfg(feature = "inputs")]
pub use onnxseal_inputs::InputKey;
#[cfg(feature = "labels")]
pub use onnxseal_labels::UserKey;
pub use onnxseal_onnx::proto::tensor_proto::DataType;
pub use prepare::Prepared;
#[cfg(feature = "ort")]
pub use session::load;
#[cfg(feature = "c-api")]
pub use sharing::element_type;
pub use sharing::{PROCESSORS, Sharing, WEIGHTS_ENTRY, WRITING_ENTRIES};
