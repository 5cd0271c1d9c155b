//! What it costs to open a model once it is protected.

use std::time::Instant;

use onnxseal_core::{Bytes, Identities, InMemory, Policy, ProtectOptions, Recipients, Silent};

use crate::assessment::Opening;
use crate::error::{Error, Result};
use crate::subject::Subject;

/// Times that it is opened; the best counts.
const N_TIMES: usize = 3;

/// Protects the model into a temporary folder and opens it.
///
/// # Errors
/// [`Error::Core`]: for example where the model does not meet what the policy demands.
pub(crate) fn measure(subject: &Subject, policy: &Policy) -> Result<Opening> {
    let files = subject.files();
    let mut model = InMemory::new("model.onnx", Bytes::new(files.model.clone()));
    let external = files.external.iter();
    model.external = external
        .map(|(path, bytes)| (path.clone(), Bytes::new(bytes.clone())))
        .collect();
    let folder = tempfile::tempdir().map_err(crate::error::io(&std::env::temp_dir()))?;
    let output = folder.path().join("protected.onnx");
    let identity = onnxseal_core::generate_identity();
    let recipients =
        Recipients::parse(&[identity.recipient()]).map_err(onnxseal_core::Error::from)?;
    let mut options = ProtectOptions::new(policy.clone());
    options.output.sync = false;
    onnxseal_core::protect(model, &output, &recipients, &options, &Silent)?;
    let identities = Identities::from(identity);
    let mut best = f64::INFINITY;
    let mut bytes = 0;
    for _ in 0..N_TIMES {
        let began = Instant::now();
        let opened = onnxseal_core::open(&output, &identities, &Silent)?;
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
