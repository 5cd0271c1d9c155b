//! Publishers' signatures of models that are there, which take no key to check.

use onnxseal_crypto::signature::Signer;
use onnxseal_store::Input;

use crate::error::Result;
use crate::open::protected::Protected;
use crate::pass::chunks;
use crate::pass::progress::Progress;
use crate::pass::signature::{Demand, Leaves, SignedBy};
use crate::pass::structure::Structure;

/// Checks, without a key, that the model bears a signature `by` one who may sign, and that it is of
/// this `structure`.
pub(crate) fn check_signature(
    protected: &Protected,
    by: &SignedBy,
    structure: Option<&Structure<'_>>,
    progress: &dyn Progress,
) -> Result<Signer> {
    let (path, artifact) = (&protected.source.input.path, &protected.artifact);
    let demand = Demand::new(path, artifact, by)?;
    digest_chunks(protected, &demand.leaves, structure, progress)?;
    demand.check(path, artifact)
}

/// Lets `leaves` take in all chunks as they are stored.
pub(crate) fn digest_chunks(
    protected: &Protected,
    leaves: &Leaves,
    structure: Option<&Structure<'_>>,
    progress: &dyn Progress,
) -> Result<()> {
    let external = protected.open_external()?;
    let inputs: Vec<&Input> = protected.files(&external).collect();
    let (manifest, places) = (protected.manifest(), std::iter::repeat(()));
    chunks::for_each_read(
        false,
        manifest,
        &inputs,
        places,
        progress,
        |chunk, bytes, _, ()| {
            leaves.take(chunk, bytes);
            structure.map_or(Ok(()), |structure| structure.check(chunk, bytes))
        },
    )?;
    inputs.into_iter().try_for_each(Input::check_unchanged)?;
    Ok(())
}
