//! What it costs to open a model once it is protected.

use std::time::Instant;

use onnxseal_core::{Edition, Policy};

use crate::assessment::Opening;
use crate::error::{Error, Result};
use crate::sealed::Sealed;
use crate::subject::Subject;

/// Times that it is opened; the best counts.
const N_TIMES: usize = 3;

/// Protects the model into a temporary folder and opens it.
///
/// # Errors
/// [`Error::Core`]: for example where the model does not meet what the policy demands.
pub(crate) fn measure(subject: &Subject, policy: &Policy) -> Result<Opening> {
    let sealed = Sealed::new(subject, policy)?;
    let mut best = f64::INFINITY;
    let mut bytes = 0;
    for _ in 0..N_TIMES {
        let began = Instant::now();
        let opened = sealed.open(Edition::Whole)?;
        best = best.min(began.elapsed().as_secs_f64());
        bytes = opened.manifest().total_bytes();
    }
    match best.is_finite() {
        true => Ok(Opening {
            seconds: best,
            bytes,
        }),
        false => Err(Error::Cancelled),
    }
}
