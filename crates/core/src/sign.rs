//! Signing a protected model where it lies.

use onnxseal_crypto::signature::{self, ClaimedSigner, Signer, SigningKey};

use crate::artifact::encode_end;
use crate::chunks;
use crate::error::{Error, Result};
use crate::input::Input;
use crate::location::Location;
use crate::progress::Progress;
use crate::protected::Protected;
use crate::signature::{Demand, Leaves, SignedBy};
use crate::splice::splice;
use crate::structure::Structure;

/// Signs the protected `model`, in place of a signature that it may have: says that it is
/// by whoever has `key`, as it stands. Reads all of it, and writes the last few hundred bytes of the
/// file; interrupted, that is completed by the next `sign`, or as with
/// [`rekey_in_place`](crate::rekey_in_place), whose own interruption `sign` does not complete.
///
/// What is signed is not authenticated: see [`verify`](crate::verify()).
///
/// # Errors
/// `Malformed`, `Io`; `Usage` when the model is not protected, or [`Error::Interrupted`]. On failure,
/// the model is what it was.
pub fn sign(
    model: impl Into<Location>,
    key: &SigningKey,
    sync: bool,
    progress: &dyn Progress,
) -> Result<()> {
    splice(model.into(), None, sync, |protected| {
        let message = message(protected, progress)?;
        let armored = key.sign(message.as_bytes()).map_err(Error::Key)?;
        Ok((encode_end(Some(&armored), &protected.artifact.key), ()))
    })
}

/// Puts a signature that was made elsewhere, over [`signed_message`], into the protected
/// `model`, in place of one that it may have. Says who signed.
///
/// # Errors
/// As [`sign`]; `Authentication` where the signature does not hold.
pub fn attach_signature(
    model: impl Into<Location>,
    armored: &str,
    sync: bool,
    progress: &dyn Progress,
) -> Result<ClaimedSigner> {
    splice(model.into(), None, sync, |protected| {
        let message = message(protected, progress)?;
        let signer = signature::check(message.as_bytes(), armored).map_err(|source| {
            let path = protected.source.input.path.clone();
            Error::Signature { path, source }
        })?;
        Ok((encode_end(Some(armored), &protected.artifact.key), signer))
    })
}

/// What a publisher signs of the protected model at `location`, in the namespace `onnxseal`: see
/// `docs/SIGNING.md`.
///
/// # Errors
/// `Malformed`, `Io`; `Usage` when the model is not protected.
pub fn signed_message(location: impl Into<Location>, progress: &dyn Progress) -> Result<String> {
    message(&Protected::open(&location.into())?, progress)
}

fn message(protected: &Protected, progress: &dyn Progress) -> Result<String> {
    let leaves = Leaves::new(protected.manifest());
    digest_chunks(protected, &leaves, None, progress)?;
    leaves.message_of(&protected.artifact)
}

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
fn digest_chunks(
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
    inputs.into_iter().try_for_each(Input::check_unchanged)
}
