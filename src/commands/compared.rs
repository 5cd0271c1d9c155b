//! Comparing a rewritten model with the original on ONNX Runtime, before it is written.

use anyhow::{Context as _, Error, Result};
use onnxseal_engine::Engine;

/// Runs both models. An error that `differs` says what the comparison found; all others stop it, and
/// `may_skip` says whether --no-check does without it.
pub fn compared<T, E: std::error::Error + Send + Sync + 'static>(
    may_skip: bool,
    differs: impl FnOnce(&E) -> bool,
    compare: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<T> {
    let not_run = if may_skip {
        "the result was not run, so nothing was written: --no-check skips the run"
    } else {
        "the result was not run, and nothing was written"
    };
    // Before the models take memory.
    Engine::load().context(not_run)?;
    compare().map_err(|error| match differs(&error) {
        true => Error::from(error),
        false => Error::from(error).context(not_run),
    })
}
