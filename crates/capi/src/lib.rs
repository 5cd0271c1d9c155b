//! The C ABI of onnxseal: protected ONNX models, opened in memory and in ONNX Runtime's sessions.
//!
//! `include/onnxseal.h`, which cbindgen makes of this crate, is its documentation; `README.md` says
//! how to build with it. What is exported is safe Rust as far as C can express it: handles are
//! boxes and references that may be null; only text, arrays and ONNX Runtime's functions come as raw
//! pointers, and are looked at in [`arguments`] and [`ort`] alone.

mod arguments;
#[cfg(feature = "ep-context")]
mod ep_context;
mod error;
mod identities;
#[cfg(feature = "inputs")]
mod inputs;
#[cfg(feature = "labels")]
mod labels;
mod model;
mod options;
mod ort;
mod session;
mod version;
