//! Rewrites trained models to take images made with a key, without loss.
//!
//! `front` goes from the input to the nodes whose weights meet the pixels, `solve` computes their
//! new weights, and `onnxseal_rewrite` puts these in a copy of the model's files, which keeps all
//! other bytes.

#[cfg(feature = "engine")]
mod agree;
mod consumer;
mod files;
mod front;
mod patch;
mod report;
mod solve;
mod start;
mod value;
mod work;

pub use files::Files;
pub use onnxseal_rewrite::{DataType, Edit, FileId, Source, Written};
pub use patch::patch;
pub use report::{Candidate, Entry, inspect};
pub use work::{Rewritten, rekey, rewrite};

/// The advice for models whose computations no rewriting can undo.
pub(crate) const TRAIN: &str =
    "train the model on transformed images instead: `inputs encrypt` transforms data sets";
