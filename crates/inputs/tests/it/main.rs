//! What `inputs` promises its callers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod rewrite;
mod rewrite_vectors;
