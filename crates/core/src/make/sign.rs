//! Signing a protected model where it lies.

use onnxseal_crypto::signature::{self, ClaimedSigner, SigningKey};
use onnxseal_store::{Flush, Location};

use crate::error::{Error, Result};
use crate::format::artifact::encode_end;
use crate::make::splice::splice;
use crate::open::protected::Protected;
use crate::open::signed::digest_chunks;
use crate::pass::progress::Progress;
use crate::pass::signature::Leaves;

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
    flush: Flush,
    progress: &dyn Progress,
) -> Result<()> {
    splice(model.into(), None, flush, |protected| {
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
    flush: Flush,
    progress: &dyn Progress,
) -> Result<ClaimedSigner> {
    splice(model.into(), None, flush, |protected| {
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
