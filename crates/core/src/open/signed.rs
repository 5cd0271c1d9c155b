//! Checks publishers' signatures of protected models without a key.

use onnxseal_crypto::signature::Signer;
use onnxseal_store::{Input, Progress};

use crate::error::Result;
use crate::open::protected::Protected;
use crate::pass::signature::{Leaves, RequiredSignature, SignedBy};
use crate::pass::structure::Structure;

/// Checks, without a key, that one of `by` signed the model, and that its chunks agree with
/// `structure`.
pub(crate) fn check_signature(
    protected: &Protected,
    by: &SignedBy,
    structure: Option<&Structure>,
    progress: &dyn Progress,
) -> Result<Signer> {
    let (path, artifact) = (&protected.source.input.path, &protected.artifact);
    let demand = RequiredSignature::new(path, artifact, by)?;
    digest_chunks(protected, &demand.leaves, structure, progress)?;
    demand.check(path, artifact)
}

/// Reads all chunks as they are stored, and gives them to `leaves`.
pub(crate) fn digest_chunks(
    protected: &Protected,
    leaves: &Leaves,
    structure: Option<&Structure>,
    progress: &dyn Progress,
) -> Result<()> {
    let external = protected.open_external()?;
    let inputs: Vec<&Input> = protected.files(&external).collect();
    leaves.take_all(protected.manifest(), &inputs, progress, |chunk, bytes| {
        structure.map_or(Ok(()), |structure| structure.check(chunk, bytes))
    })
}
