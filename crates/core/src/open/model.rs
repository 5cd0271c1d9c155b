//! Opening: a protected model, verified and decrypted, in memory or in new files.

use std::collections::BTreeMap;
use std::sync::Arc;

use onnxseal_crypto::BlobKey;
use onnxseal_store::{Input, Location, SecretBytes};
use zeroize::Zeroizing;

use crate::error::{Result, io};
use crate::format::claims::Requirements;
use crate::format::manifest::Manifest;
use crate::open::protected::Protected;
use crate::pass::chunks;
use crate::pass::outputs::{self, Outputs};
use crate::pass::progress::Progress;
use crate::pass::publish::Publication;
use crate::pass::signature::Access;
use crate::pass::transfer::Transfer;

/// A model in memory: every byte verified, every encrypted byte decrypted.
#[derive(Debug)]
pub struct OpenedModel {
    manifest: Manifest,
    files: Vec<SecretBytes>,
    blob_key: Arc<BlobKey>,
}

/// Opens the protected `model` into memory of its own.
///
/// Returns the decrypted bytes of all its files, after the last of them has been authenticated.
///
/// # Errors
/// [`ErrorKind`](crate::ErrorKind): `Malformed`, `NoMatchingKey`, `Authentication`, `Io`; `Usage`
/// when the model is not protected.
pub fn open<'a>(
    model: impl Into<Location>,
    access: impl Into<Access<'a>>,
    progress: &dyn Progress,
) -> Result<OpenedModel> {
    let requirements = Requirements::default();
    open_with(model, access, &requirements, progress)
}

/// The same, of a model that makes the claims that are required.
///
/// # Errors
/// As [`open`]; `PolicyNotMet` where a claim is not made.
pub fn open_with<'a>(
    model: impl Into<Location>,
    access: impl Into<Access<'a>>,
    requirements: &Requirements,
    progress: &dyn Progress,
) -> Result<OpenedModel> {
    let protected = Protected::open(&model.into())?;
    let path = &protected.source.input.path;
    let access = access.into();
    let unlocked = protected.unlock(access)?;
    // The claims are authentic from here on.
    requirements.check(path, &protected.manifest().claims)?;
    let mut files = Vec::new();
    for ((file, input), targets) in protected
        .manifest()
        .files
        .iter()
        .zip(unlocked.files())
        .zip(&unlocked.targets)
    {
        let targets = targets
            .iter()
            .map(|span| span.start as usize..span.end() as usize);
        let file = SecretBytes::new(file.bytes, targets.collect());
        files.push(file.map_err(io("find memory for", &input.path))?);
    }
    let chunk_bytes = protected.manifest().chunk as usize;
    let places = files
        .iter_mut()
        .flat_map(|file| file.as_mut_slice().chunks_mut(chunk_bytes));
    let places = unlocked.tags().zip(places);
    chunks::for_each(
        unlocked.is_remote(),
        protected.manifest(),
        places,
        progress,
        |workspace, chunk, (tag, bytes)| {
            unlocked.read(chunk, bytes)?;
            unlocked.open_chunk(chunk, bytes, tag, &mut workspace.tools)
        },
    )?;
    unlocked.files().try_for_each(Input::check_unchanged)?;
    unlocked.check_signature()?;
    let blob_key = Arc::clone(&unlocked.blob_key);
    for (file, input) in files.iter_mut().zip(unlocked.files()) {
        let finished = file.finish();
        finished.map_err(io("protect the memory of", &input.path))?;
    }
    drop(unlocked);
    Ok(OpenedModel {
        manifest: protected.artifact.manifest,
        files,
        blob_key,
    })
}

/// Restores the original of the protected `model` as `output`, its external files beside
/// it under the relative paths that they had. Replaces existing files only if the options of `publication` say so.
///
/// # Errors
/// As [`open`]; `Usage` when an output exists or is an input. Nothing appears on failure.
pub fn unprotect<'a>(
    model: impl Into<Location>,
    output: impl Into<Location>,
    access: impl Into<Access<'a>>,
    publication: impl Into<Publication<'a>>,
    progress: &dyn Progress,
) -> Result<()> {
    let protected = Protected::open(&model.into())?;
    let access = access.into();
    let unlocked = protected.unlock(access)?;
    let files = protected.manifest().original_files();
    let paths = outputs::paths(&output.into(), &files, unlocked.files())?;
    let outputs = Outputs::create(paths, publication.into())?;
    let mut transfer = Transfer::new(protected.manifest(), unlocked.files(), &outputs);
    transfer.restore()?;
    transfer.run(unlocked.tags(), progress, |chunk, bytes, tools, tag| {
        unlocked.open_chunk(chunk, bytes, tag, tools)
    })?;
    unlocked.check_signature()?;
    transfer.finish(protected.tail(), &[], None)?;
    outputs.publish(unlocked.files())
}

impl OpenedModel {
    /// The model file, decrypted. It is the original, byte for byte, but for the names of external data
    /// files that were renamed: see [`original_model`](OpenedModel::original_model).
    pub fn model(&self) -> &[u8] {
        self.files.first().map_or(&[], |model| model)
    }

    /// A copy of the model file with the names of external data files that the original has:
    /// the original, byte for byte.
    pub fn original_model(&self) -> Zeroizing<Vec<u8>> {
        let original = self.manifest.original.as_ref();
        let restored = original.and_then(|original| original.edits.apply(self.model()));
        restored.unwrap_or_else(|| Zeroizing::new(self.model().to_vec()))
    }

    /// The external data files with the paths that the original has for them.
    pub fn original_external_files(&self) -> impl Iterator<Item = (String, &[u8])> {
        let paths = self.manifest.original_files().into_iter();
        let paths = paths.map(|file| file.path);
        paths.zip(self.files.iter().map(|file| &**file)).skip(1)
    }

    /// The external data files, decrypted, with the paths that [`model`](OpenedModel::model) has for them,
    /// relative to its folder.
    pub fn external_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let paths = self.manifest.files.iter().map(|file| file.path.as_str());
        paths.zip(self.files.iter().map(|file| &**file)).skip(1)
    }

    /// The publisher's statements, authentic.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.manifest.claims
    }

    /// What was encrypted, authentic.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The key of blobs that belong to the model, such as what is compiled of it.
    pub fn blob_key(&self) -> Arc<BlobKey> {
        Arc::clone(&self.blob_key)
    }

    /// Whether all that was decrypted is kept from being swapped out.
    pub fn is_locked(&self) -> bool {
        self.files.iter().all(SecretBytes::is_locked)
    }
}

#[cfg(all(test, not(feature = "object-store")))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::{Error, Identities, OutputOptions, Silent, StoreError};

    #[test]
    fn objects_are_out_of_reach_without_the_feature() {
        let (object, none) = (Location::parse("s3://b/m").unwrap(), Identities::default());
        let unreachable = |result: Result<()>| {
            matches!(result, Err(Error::Store(StoreError::NoObjectStores { .. })))
        };
        assert!(unreachable(open(&object, &none, &Silent).map(drop)));
        let options = OutputOptions::default();
        let restored = unprotect(&object, Path::new("out"), &none, options, &Silent);
        assert!(unreachable(restored));
    }
}
