//! Wraps the data key to other recipients. The weights stay as they are.

use onnxseal_store::{Location, Progress};

use crate::error::{Error, Result};
use crate::format::artifact::{check_len, encode_end};
use crate::format::spans::SpanSet;
use crate::make::audience::Audience;
use crate::make::splice::splice;
use crate::open::protected::Protected;
use crate::pass::outputs::Outputs;
use crate::pass::publish::{Destination, Publication};
use crate::pass::signature::Access;
use crate::pass::transfer::Transfer;

/// The recipients to whom [`rekey`] wraps the data key. In a model with tiers, the keys of tiers
/// that are not named stay wrapped as they are.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Rewrap<'a> {
    /// Only these recipients.
    Only(Audience<'a>),
    /// These and the present recipients. The identities must reveal all of the latter, because the
    /// model does not contain their public keys.
    Also(Audience<'a>),
}

impl<'a, A: Into<Audience<'a>>> From<A> for Rewrap<'a> {
    fn from(recipients: A) -> Rewrap<'a> {
        Rewrap::Only(recipients.into())
    }
}

/// Wraps the data key of the protected `model` to `recipients` instead of the present ones, in a
/// copy or in place. A copy's external files go beside it under their relative paths. A signature
/// stays valid. Returns whether one of the identities that opened the model still opens as much of it.
///
/// The data key stays: a former recipient who kept it opens the result too, see
/// [`rotate`](crate::rotate()). Manifest, tags and data key are authenticated. The weights are only
/// copied, unless a signature is demanded.
///
/// In place, the model changes under all of its names. The call writes the last few hundred bytes
/// of the file, whatever its size. If a power loss or a kill interrupts it, a hidden file beside
/// the model has the missing bytes, and the next `rekey` of the model in place completes it first.
/// With [`Flush::Later`](crate::Flush::Later) this holds only for a kill.
pub fn rekey<'a>(
    model: impl Into<Location>,
    destination: impl Into<Destination<'a>>,
    access: impl Into<Access<'a>>,
    recipients: impl Into<Rewrap<'a>>,
    progress: &dyn Progress,
) -> Result<bool> {
    let (model, access, recipients) = (model.into(), access.into(), recipients.into());
    match destination.into() {
        Destination::New(publication) => copy(&model, publication, access, recipients, progress),
        Destination::InPlace(flush) => splice(model, Some(access.identities), flush, |protected| {
            new_end(protected, access, recipients, progress)
        }),
    }
}

fn copy(
    model: &Location,
    publication: Publication<'_>,
    access: Access<'_>,
    recipients: Rewrap<'_>,
    progress: &dyn Progress,
) -> Result<bool> {
    let protected = Protected::open(model)?;
    let (end, still_opens) = new_end(&protected, access, recipients, progress)?;
    let external = protected.open_external()?;
    let manifest = protected.manifest();
    let inputs = || protected.files(&external);
    let tail = [protected.artifact.split_end().0, &end].concat();
    let path = protected.path();
    check_len(path, manifest.model_bytes(), tail.len())?;
    let outputs = Outputs::begin(publication, manifest.files(), inputs())?;
    // Chunks stay as they are: files are cloned if the file system can, and copied otherwise.
    let unchanged = vec![SpanSet::default(); manifest.files().len()];
    let mut transfer = Transfer::new(manifest, inputs(), &outputs);
    transfer.clone_files(&unchanged);
    transfer.copy(progress)?;
    outputs.write_tail(&tail, manifest.model_bytes())?;
    transfer.finish(&protected.artifact.tail, &tail, None)?;
    outputs.publish(inputs())?;
    Ok(still_opens)
}

/// Encodes the end of the tail with the data key wrapped to `recipients`. Returns it, and whether the
/// identities still open it.
fn new_end(
    protected: &Protected,
    access: Access<'_>,
    recipients: Rewrap<'_>,
    progress: &dyn Progress,
) -> Result<(Vec<u8>, bool)> {
    // Any edition will do: no weight is decrypted.
    let identities = access.identities;
    let (data_key, _, key_tier) = protected.data_key(identities)?;
    if let Some(by) = access.signed_by {
        protected.check_signed(by, None, progress)?;
    }
    let manifest = protected.manifest();
    let (Rewrap::Only(audience) | Rewrap::Also(audience)) = recipients;
    let by_tier = audience.by_tier(manifest)?;
    if let Some((above, _)) = by_tier.first().filter(|(tier, _)| *tier > key_tier) {
        return Err(Error::Usage(format!(
            "recipients of tier {:?} need a key of that tier or a higher one, and the identities open tier {:?}",
            manifest.tier_name(*above),
            manifest.tier_name(key_tier)
        )));
    }
    // The wrapped keys of other tiers stay, byte for byte.
    let mut keys = protected.artifact.keys.clone();
    let of_tiers = data_key.with_lower(key_tier, manifest.n_tiers())?;
    for (tier, of_tier) in by_tier {
        let index = usize::from(tier) - 1;
        let (data_key, key) = (&of_tiers[index], &mut keys.0[index]);
        *key = Some(match (recipients, &key) {
            // A recipient that no identity reveals would lose access: that is an error.
            (Rewrap::Also(_), Some(present)) => {
                let present = identities.recipients_of(present)?;
                of_tier.and(present)?.wrap(data_key)?
            }
            _ => of_tier.wrap(data_key)?,
        });
    }
    let still_opens = matches!(keys.unwrap(identities), Ok((tier, _)) if tier == key_tier);
    let end = encode_end(protected.artifact.signature.as_deref(), &keys);
    Ok((end, still_opens))
}
