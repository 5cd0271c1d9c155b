//! What `plan` promises its callers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod by_score;
mod calls;
mod clear;
mod common;
mod dataflow;
mod demands;
mod operators;
mod plans;
mod shared_models;
