//! Trained ONNX models, rewritten through their graph: by ranges of their files, all other bytes as they are.
//!
//! [`Files`] opens a model with its external data, [`Graph`] knows its main graph by names, [`Changes`] collects what changes, and
//! [`Files::write`] puts that in a copy, whole or not at all. What a model is rewritten for is no matter of this crate.

#![forbid(unsafe_code)]

mod changes;
mod elements;
mod error;
mod files;
mod graph;
mod refusal;

pub use changes::{Changes, Edit, apply};
pub use elements::{Elements, bounds, is_float, width};
pub use error::{Error, Result};
pub use files::{Edited, Files, Written};
pub use graph::{Attributes, Graph, Small, Source, slice};
pub use onnxseal_onnx::model::FileId;
pub use onnxseal_onnx::proto::tensor_proto::DataType;
pub use refusal::{Refusal, shown};
