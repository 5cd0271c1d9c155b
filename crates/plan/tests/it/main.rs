//! What `plan` promises its callers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod by_score;
mod common;
mod dataflow;
mod operators;
mod plans;
mod shared_models;
