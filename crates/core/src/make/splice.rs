//! Replaces the end of a protected model in place.
//!
//! [`onnxseal_store::splice`] writes the end through a journal, and finds torn models. A planted
//! journal cannot destroy a wrapped key: a model that opens as it stands is left alone. A torn one
//! gets the new end or the old one, whichever an identity opens to a data key under which the MAC
//! holds. Without an identity it gets the new end only if that changes nothing but the signature.

use std::path::Path;

use onnxseal_crypto::wrap::Identities;
use onnxseal_store::splice::{Change, Splice};
use onnxseal_store::{Flush, Location};

use crate::error::{Error, Result};
use crate::format::artifact::{self, Artifact};
use crate::open::protected::Protected;
use crate::pass::source::Source;

/// Replaces the end of the tail of the protected `model` with the result of `new_end`. First
/// completes an end that an earlier call left torn, if `identities` open it.
pub(crate) fn splice<T>(
    model: Location,
    identities: Option<&Identities>,
    flush: Flush,
    new_end: impl FnOnce(&Protected) -> Result<(Vec<u8>, T)>,
) -> Result<T> {
    let path = &model.in_place()?;
    // Lock from here on: two calls would write two journals for one file.
    let splice = Splice::open(path, flush)?;
    splice.complete(|torn, before, found| judge(path, torn, before, found, identities))?;
    let protected = Protected::of(Source::of(splice.input()?))?;
    let (new, result) = new_end(&protected)?;
    // Signing reads the whole model, which takes time: fail if it was written to meanwhile.
    let input = &protected.source.input;
    input.check_unchanged()?;
    input.check_in_place()?;
    let (before, old) = protected.artifact.split_end();
    let context = protected.manifest().model_bytes();
    artifact::check_len(path, context, before.len() + new.len())?;
    let change = Change {
        context,
        start: context + before.len() as u64,
        old: old.to_vec(),
        new,
    };
    // Unmap the file first, because it may become shorter.
    drop(protected);
    splice.replace(&change)?;
    Ok(result)
}

/// Decides which end the torn model at `path` gets, whose tail is now `before` and `found`.
fn judge<'t>(
    path: &Path,
    torn: &'t Change,
    before: &[u8],
    found: &'t [u8],
    identities: Option<&Identities>,
) -> Result<&'t [u8]> {
    let artifact = |end: &[u8]| {
        let tail = [before, end].concat();
        let artifact = Artifact::of_tail(path, tail, torn.context).ok()?;
        // A planted journal could claim more of the tail than may be replaced.
        (artifact.split_end().1 == end).then_some(artifact)
    };
    let ends = [found, &torn.new, &torn.old].map(|end| (end, artifact(end)));
    let ending = match identities {
        Some(identities) => ends.iter().find_map(|(ending, artifact)| {
            let artifact = artifact.as_ref()?;
            let (tier, key) = artifact.keys.unwrap(identities).ok()?;
            artifact.open_keys(tier, &key).map(|_| *ending)
        }),
        None => {
            // Anyone may have planted the journal: without an identity, it must keep the wrapped
            // keys.
            let [found, new, old] =
                ends.map(|(_, artifact)| artifact.map(|artifact| artifact.keys));
            let keeps_key = new.is_some() && new == old && (found.is_none() || found == new);
            keeps_key.then_some(&*torn.new)
        }
    };
    ending.ok_or_else(|| Error::Interrupted(path.to_owned()))
}
