//! Finds ONNX Runtime, and runs models over samples.
//!
//! [`Engine`] finds and loads the library when it is first needed. A [`Net`] is a session of a
//! model; [`fit`] turns a data set, and [`random`] random numbers, into the [`Samples`] that it
//! takes. [`Pair`] tells whether a changed model computes what the original does.

#![forbid(unsafe_code)]
#![allow(missing_docs)]

mod agreement;
mod error;
mod files;
mod find;
mod fit;
mod library;
mod net;
mod outputs;
mod values;

pub use agreement::{Agreement, Fed, Pair, difference, pixels};
pub use error::{Error, Result};
pub use files::Files;
pub use find::look_first_in;
pub use fit::{fit, random};
pub use library::Engine;
pub use net::{InputSpec, Net, OutputSpec};
pub use ort::session::builder::GraphOptimizationLevel as Optimization;
pub use values::{Batch, Element, Samples, Table};
