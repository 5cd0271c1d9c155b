//! Rewrites trained ONNX models through their graph: replaces ranges of their files, and keeps all
//! other bytes.
//!
//! [`Files`] opens a model with its external data, [`Graph`] knows its main graph by names,
//! [`Changes`] collects changes, and [`Files::write`] writes a copy with them, whole or not at all.
//! The callers decide what a model is rewritten for.

#![forbid(unsafe_code)]
#![allow(missing_docs)]

mod changes;
mod elements;
mod error;
mod files;
mod graph;
mod refusal;

pub use changes::{Changes, Edit, apply};
pub use elements::{Elements, bounds, is_float, width};
pub use error::{Error, Result};
pub use files::{Contents, Files, Written};
pub use graph::{Attributes, Graph, Small, Source, slice};
pub use onnxseal_onnx::model::FileId;
pub use onnxseal_onnx::proto::tensor_proto::DataType;
pub use refusal::{Refusal, shown};
