//! Comparing a rewritten model with the original on ONNX Runtime, before it is written.

use anyhow::{Context as _, Error, Result};
use onnxseal_engine::Engine;

/// Runs both models. `not_run` is the context of errors that stop the comparison; one that
/// `differs` says what the comparison found.
pub fn compared<T, E: std::error::Error + Send + Sync + 'static>(
    not_run: &'static str,
    differs: impl FnOnce(&E) -> bool,
    compare: impl FnOnce() -> std::result::Result<T, E>,
) -> Result<T> {
    // Before the models take memory.
    Engine::load().context(not_run)?;
    compare().map_err(|error| match differs(&error) {
        true => Error::from(error),
        false => Error::from(error).context(not_run),
    })
}
