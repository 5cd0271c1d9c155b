//! What `labels` promises its callers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod head;
mod hostile;
mod scheme;
mod traces;
