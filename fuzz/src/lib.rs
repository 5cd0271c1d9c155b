//! What the targets do; `tests/corpus.rs` replays their corpora with the same code.

#[path = "../../tests/lab/fuzz.rs"]
mod bodies;

pub use bodies::*;
