//! Trained models, changed so that they take images made with a key, with no loss.
//!
//! `front` goes from the input to the nodes whose weights meet the pixels, `solve` computes their new weights, and
//! `write` puts these in a copy of the model's files. Nothing else of them changes.

mod changes;
mod consumer;
mod elements;
mod front;
mod graph;
mod patch;
mod positions;
mod report;
mod solve;
mod start;
mod value;
mod work;
mod write;

pub use graph::Source;
pub use onnxseal_onnx::model::FileId;
pub use onnxseal_onnx::proto::tensor_proto::DataType;
pub use patch::patch;
pub use report::{Candidate, Entry, inspect};
pub use work::{Edit, Rewritten, rekey, rewrite};
pub use write::{Files, Written};
