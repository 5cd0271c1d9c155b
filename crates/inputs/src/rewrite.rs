//! Rewrites trained models to take images made with a key, without loss.
//!
//! `front` goes from the input to the nodes whose weights meet the pixels, `solve` computes their
//! new weights, and `onnxseal_rewrite` puts these in a copy of the model's files, which keeps all
//! other bytes.

#[cfg(feature = "engine")]
mod agree;
mod consumer;
mod front;
mod patch;
mod report;
mod solve;
mod start;
mod value;
mod work;

use onnxseal_onnx::model::Node;
use onnxseal_rewrite::{Error, Refusal, Result};

#[cfg(feature = "engine")]
pub use agree::check;
pub use onnxseal_rewrite::{DataType, Edit, FileId, Files, Source, Written};
pub use patch::patch;
pub use report::{Candidate, Entry, inspect};
pub use work::{Rewritten, rekey, rewrite};

/// The advice for models whose computations no rewriting can undo.
const TRAIN: &str =
    "train the model on transformed images instead: `inputs encrypt` transforms data sets";

/// Refuses a model.
fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Refusal::new(reason).into())
}

/// Refuses a model, and advises to train one.
fn train<T>(reason: impl Into<String>) -> Result<T> {
    advise(reason, TRAIN)
}

fn advise<T>(reason: impl Into<String>, advice: &'static str) -> Result<T> {
    Err(Refusal::new(reason).advise(advice).into())
}

/// Adds the node to refusals.
fn at<'n>(node: &'n Node<'_>) -> impl Fn(Error) -> Error + 'n {
    move |error| match error {
        Error::Refused(refusal) => refusal.at(node).into(),
        error => error,
    }
}
