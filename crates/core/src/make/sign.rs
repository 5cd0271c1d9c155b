//! Signs a protected model in place.

use onnxseal_crypto::signature::{self, ClaimedSigner, SigningKey};
use onnxseal_store::{Flush, Location, Progress};

use crate::error::{Error, Result};
use crate::format::artifact::encode_end;
use crate::make::splice::splice;
use crate::open::protected::Protected;
use crate::pass::signature::ChunkHashes;

/// Signs the protected `model` in place with `key`, and replaces an existing signature.
///
/// The call reads the whole model, and writes the last few hundred bytes of the file. If it is
/// interrupted, the next `sign`, or [`rekey`](crate::rekey()) in place, completes it. `sign` does
/// not complete an interrupted `rekey`.
///
/// The call does not authenticate the model: see [`verify`](crate::verify()).
pub fn sign(
    model: impl Into<Location>,
    key: &SigningKey,
    flush: Flush,
    progress: &dyn Progress,
) -> Result<()> {
    splice(model.into(), None, flush, |protected| {
        let message = message(protected, progress)?;
        let armored = key.sign(message.as_bytes())?;
        Ok((encode_end(Some(&armored), &protected.artifact.keys), ()))
    })
}

/// Puts a signature of [`signed_message`], made elsewhere, into the protected `model` in place of
/// an existing one. Returns the signer.
pub fn attach_signature(
    model: impl Into<Location>,
    armored: &str,
    flush: Flush,
    progress: &dyn Progress,
) -> Result<ClaimedSigner> {
    splice(model.into(), None, flush, |protected| {
        let message = message(protected, progress)?;
        let signer = signature::check(message.as_bytes(), armored).map_err(|source| {
            let path = protected.path().to_owned();
            Error::Signature { path, source }
        })?;
        Ok((encode_end(Some(armored), &protected.artifact.keys), signer))
    })
}

/// Computes the message that a publisher of the protected model at `location` signs, in the
/// namespace `onnxseal`: see `docs/SIGNING.md`.
pub fn signed_message(location: impl Into<Location>, progress: &dyn Progress) -> Result<String> {
    message(&Protected::open(&location.into())?, progress)
}

fn message(protected: &Protected, progress: &dyn Progress) -> Result<String> {
    let hashes = ChunkHashes::new(protected.manifest());
    protected.digest_chunks(&hashes, None, progress)?;
    protected.signed_message(&hashes)
}
