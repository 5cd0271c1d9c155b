//! Opens protected ONNX models straight into ONNX Runtime.
//!
//! This program opens a model, makes a session of it, and runs it:
//!
//! ```
//! # #[cfg(feature = "ort")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # if std::env::var_os("ORT_DYLIB_PATH").is_none() {
//! #     return Ok(());
//! # }
//! use std::fs::File;
//! use std::path::Path;
//!
//! use onnxseal_runtime::{Identities, Model};
//! use ort::session::Session;
//! use ort::value::TensorRef;
//!
//! // Load ONNX Runtime's library, which ORT_DYLIB_PATH names.
//! let environment = onnxseal_runtime::load()?.build()?;
//!
//! // Open it, and make a session: weights are decrypted while ONNX Runtime goes through them.
//! let fixtures = Path::new("../../fixtures/sealed");
//! let identities = Identities::read(File::open(fixtures.join("keys/id.txt"))?, "id.txt")?;
//! let model = Model::open(fixtures.join("valid/digits_cnn.onnx"), &identities)?;
//! let mut session = model.into_session(Session::builder(&environment)?)?;
//!
//! // Run it as any other session of `ort`.
//! let image = vec![0.5_f32; 64];
//! let image = TensorRef::from_array_view(([1, 1, 8, 8], &image[..]))?;
//! let outputs = session.run(ort::inputs![image])?;
//! let (_, scores) = outputs["scores"].try_extract_tensor::<f32>()?;
//! assert_eq!(scores.len(), 10);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "ort"))]
//! # fn main() {}
//! ```
//!
//! Decrypted bytes stay in memory: this crate writes none to files. `docs/RUNTIME.md` explains why
//! this is as fast as opening a plain model, and what it costs.
//!
//! # Modules
//!
//! All modules but `ep_context` are private, and this page exports what they offer.
//!
//! | module | contents | exports | feature |
//! |---|---|---|---|
//! | `model` | an opened model and its tensors | [`Model`], [`Contents`], [`Options`], [`Tensor`] | |
//! | `prepare`, `sharing` | a skeleton and weights, for other bindings of ONNX Runtime | [`Model::prepare`], [`Prepared`], [`Sharing`] | |
//! | `session` | sessions of the crate `ort` | [`Model::into_session`], [`load`] | `ort` |
//! | `keyed` | sessions of models that take keyed images (`docs/INPUTS.md`) | [`KeyedSession`] | `inputs` |
//! | `labels` | the answers of models with protected labels (`docs/LABELS.md`) | [`SessionLabels`] | `labels` |
//! | [`ep_context`] | compiled caches of execution providers, sealed (`docs/EPCONTEXT.md`) | [`Model::ep_context`] | `ep-context` |
//! | `error` | errors | [`Error`] | |
//!
//! All these features are on by default, and `aws-lc`, the faster of two AEAD back ends.
//! `object-store` opens models in object stores (`docs/STORAGE.md`). `c-api` gives the names that
//! ONNX Runtime's C API has for types, without loading the library.

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
pub use model::{Contents, Model, Opening, Options, PlaintextOnDisk, Tensor};
pub use onnxseal_core::{
    Access, AllowedSigners, Bytes, Edition, ErrorKind, Identities, InMemory, Licence, Location,
    NoPrompt, OnLoss, Passphrase, Progress, Prompt, Requirements, SignedBy, Silent, read_licence,
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
