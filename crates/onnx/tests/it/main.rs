//! What `onnx` promises its callers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod ambiguity;
mod change;
mod detail;
mod edit;
mod external;
mod limits;
mod locate;
mod payload;
mod refuse;
mod shared_models;
mod sniff;
mod support;
mod tail;
