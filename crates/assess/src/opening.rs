//! What it costs to open a model once it is protected.

use std::time::Instant;

use onnxseal_core::Edition;

use crate::assessment::Opening;
use crate::error::{Error, Result};
use crate::sealed::Sealed;

/// Times that it is opened; the best counts.
const N_TIMES: usize = 3;

/// Opens a model that was protected.
///
/// # Errors
/// [`Error::Core`].
pub(crate) fn measure(sealed: &Sealed) -> Result<Opening> {
    let mut best = f64::INFINITY;
    let mut bytes = 0;
    for _ in 0..N_TIMES {
        let began = Instant::now();
        let opened = sealed.open(Edition::Whole)?;
        best = best.min(began.elapsed().as_secs_f64());
        bytes = opened.manifest().total_bytes();
    }
    if best.is_finite() {
        Ok(Opening {
            seconds: best,
            bytes,
        })
    } else {
        Err(Error::Cancelled)
    }
}
