//! Opening: a protected model, verified and decrypted, in memory or in new files.

use std::sync::Arc;

use onnxseal_crypto::BlobKey;
use onnxseal_store::on_demand::OnLoss;
use onnxseal_store::{Input, Location, Progress, SecretBytes};
use zeroize::Zeroizing;

use crate::error::{Result, io};
use crate::format::claims::Requirements;
use crate::format::manifest::Manifest;
use crate::format::tiers::OpenedEdition;
use crate::open::on_demand::{self, Files, Passage};
use crate::open::protected::{Protected, Unlocked};
use crate::pass::outputs::Outputs;
use crate::pass::publish::Publication;
use crate::pass::signature::Access;
use crate::pass::transfer::Transfer;

/// Bytes that the system clears at once if it uses huge pages.
const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// A model in memory, authenticated and decrypted.
#[derive(Debug)]
pub struct OpenedModel {
    contents: Contents,
    /// Why all chunks were opened at once, if the caller wanted otherwise.
    obstacle: Option<String>,
    blob_key: Arc<BlobKey>,
    edition: OpenedEdition,
}

#[derive(Debug)]
enum Contents {
    /// All chunks have been opened.
    Whole(Box<Manifest>, Vec<SecretBytes>),
    OnDemand(Files),
}

/// Decrypts the protected `model` into memory, and returns it once every byte of all its files is
/// authenticated.
pub fn open<'a>(
    model: impl Into<Location>,
    access: impl Into<Access<'a>>,
    progress: &dyn Progress,
) -> Result<OpenedModel> {
    let unlocked = Arc::new(Protected::open(&model.into())?).unlock(access)?;
    open_whole(unlocked, None, progress)
}

/// Opens the protected `model` as [`open`] does, if it makes the claims that `requirements` name, but
/// each chunk only when it is touched, if its files have at least `min_bytes` and the system allows
/// that: [`OpenedModel::obstacle`] tells.
///
/// Each chunk is authenticated before anything of it can be read. Before
/// [`finish`](OpenedModel::finish) or [`open_rest`](OpenedModel::open_rest) has succeeded, use no
/// result of what was read: a chunk that cannot be opened reads as zeros until then. A demanded
/// signature is checked first.
pub fn open_on_demand<'a>(
    model: impl Into<Location>,
    access: impl Into<Access<'a>>,
    requirements: &Requirements,
    min_bytes: u64,
    progress: &dyn Progress,
) -> Result<OpenedModel> {
    let mut unlocked = Arc::new(Protected::open(&model.into())?).unlock(access)?;
    requirements.check(unlocked.path(), unlocked.manifest().claims())?;
    if let Some(obstacle) = on_demand::obstacle(&unlocked, min_bytes) {
        return open_whole(unlocked, Some(obstacle), progress);
    }
    let (blob_key, edition) = (Arc::clone(&unlocked.blob_key), unlocked.edition());
    unlocked.check_first(progress)?;
    // What was read is not authentic yet: a chunk that turns out to have structure too is opened
    // when it is touched.
    let structure = unlocked.take_structure()?;
    let files = Files::new(unlocked)?;
    files.open_within(&structure);
    Ok(OpenedModel {
        contents: Contents::OnDemand(files),
        obstacle: None,
        blob_key,
        edition,
    })
}

pub(crate) fn open_whole(
    unlocked: Unlocked,
    obstacle: Option<String>,
    progress: &dyn Progress,
) -> Result<OpenedModel> {
    let manifest = unlocked.manifest();
    // Allocate everything first: each thread writes its chunks straight to their places.
    let mut files = Vec::new();
    let with_inputs = manifest.files().iter().zip(unlocked.files());
    for ((file, input), targets) in with_inputs.zip(&unlocked.targets.all) {
        let targets = targets
            .iter()
            .map(|span| span.start as usize..span.end() as usize);
        let file = SecretBytes::new(file.bytes, targets.collect());
        files.push(file.map_err(io("find memory for", &input.path))?);
    }
    let places = files.iter_mut().flat_map(|file| {
        file.as_mut_slice()
            .chunks_mut(manifest.chunk_bytes() as usize)
    });
    // One thread gets the whole of a huge page: two would wait for each other while it is cleared.
    let at_once = match unlocked.is_remote() {
        true => 1,
        false => (HUGE_PAGE_BYTES / manifest.chunk_bytes()).max(1),
    };
    unlocked.read_into(places, at_once, progress)?;
    // A writer may have changed chunks after they were read: fail unless all files are unchanged.
    unlocked.files().try_for_each(Input::check_unchanged)?;
    unlocked.check_signature()?;
    let blob_key = Arc::clone(&unlocked.blob_key);
    let edition = unlocked.edition();
    for (file, input) in files.iter_mut().zip(unlocked.files()) {
        let finished = file.finish();
        finished.map_err(io("protect the memory of", &input.path))?;
    }
    Ok(OpenedModel {
        contents: Contents::Whole(Box::new(unlocked.into_manifest()?), files),
        obstacle,
        blob_key,
        edition,
    })
}

/// Restores the original of the protected `model` to `publication`, and its external files beside
/// it under their former relative paths. Returns which edition was opened.
///
/// If external files [keep their paths](Publication::keep_paths), the outputs have the contents that
/// [`open`] gives, and each can take the place of the file it was made from.
pub fn unprotect<'a>(
    model: impl Into<Location>,
    publication: impl Into<Publication<'a>>,
    access: impl Into<Access<'a>>,
    progress: &dyn Progress,
) -> Result<OpenedEdition> {
    let publication = publication.into();
    let protected = Arc::new(Protected::open(&model.into())?);
    let manifest = protected.manifest();
    let unlocked = protected.unlock(access)?;
    let restored = (!publication.keep_paths).then(|| manifest.original_files());
    let files = restored.as_deref().unwrap_or(manifest.files());
    let outputs = Outputs::begin(publication, files, unlocked.files())?;
    let mut transfer = Transfer::new(manifest, unlocked.files(), &outputs);
    if restored.is_some() {
        transfer.restore()?;
    }
    transfer.run(unlocked.tags(), progress, |chunk, bytes, tools, tag| {
        unlocked.open_chunk(chunk, bytes, tag, tools)
    })?;
    unlocked.check_signature()?;
    transfer.finish(&protected.artifact.tail, &[], None)?;
    outputs.publish(unlocked.files())?;
    Ok(unlocked.edition())
}

impl OpenedModel {
    /// Returns the decrypted model file. With the highest [tier](OpenedModel::tier), or without
    /// tiers, it is the original byte for byte, except for the names of renamed external data
    /// files: see [`original_model`](OpenedModel::original_model).
    pub fn model(&self) -> &[u8] {
        self.files().next().unwrap_or_default()
    }

    /// Returns a copy of the model file with the original names of external data files: the
    /// original, byte for byte.
    pub fn original_model(&self) -> Zeroizing<Vec<u8>> {
        let original = self.manifest().original.as_ref();
        // A checked manifest has edits that lie in the file.
        let restored = original.and_then(|original| original.apply(self.model()));
        restored.unwrap_or_else(|| Zeroizing::new(self.model().to_vec()))
    }

    /// Returns the external data files, decrypted, with their original paths.
    pub fn original_external_files(&self) -> impl Iterator<Item = (String, &[u8])> {
        let paths = self.manifest().original_files().into_iter();
        paths.map(|file| file.path).zip(self.files()).skip(1)
    }

    /// Returns the external data files, decrypted, with the paths by which
    /// [`model`](OpenedModel::model) names them, relative to its folder.
    pub fn external_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let paths = self.manifest().files().iter().map(|file| &*file.path);
        paths.zip(self.files()).skip(1)
    }

    /// Returns the authenticated manifest, which says what was encrypted.
    pub fn manifest(&self) -> &Manifest {
        match &self.contents {
            Contents::Whole(manifest, _) => manifest,
            Contents::OnDemand(files) => files.memory.filler().unlocked.manifest(),
        }
    }

    fn files(&self) -> impl Iterator<Item = &[u8]> {
        let (whole, on_demand) = match &self.contents {
            Contents::Whole(_, files) => (Some(files), None),
            Contents::OnDemand(files) => (None, Some(files)),
        };
        let whole = whole.into_iter().flatten().map(|file| &**file);
        whole.chain(on_demand.into_iter().flat_map(|files| files.iter()))
    }

    /// Returns why all chunks were opened at once, although [`open_on_demand`] was called.
    pub fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    /// Opens all chunks that are not open. They stay in memory.
    pub fn open_rest(&self) -> Result<()> {
        self.on_demand()
            .map_or(Ok(()), |files| files.memory.fill_all())
    }

    /// Says that a reader will go through `passages` in this order. Until
    /// [`finish`](OpenedModel::finish), other threads open chunks ahead of it, and give back the
    /// memory of what it has left behind.
    pub fn begin(&self, passages: &[Passage]) {
        if let Some(files) = self.on_demand() {
            files.memory.begin(files.units(passages));
        }
    }

    /// Ends the reader's way: authenticates every chunk that was not open yet. Passages that are
    /// kept stay in memory if they were not touched, and are opened again if they were.
    ///
    /// `on_loss` says what happens from then on if a chunk that is touched cannot be opened again,
    /// because its file was overwritten.
    ///
    /// If it fails, nothing that was made of the model may be used.
    pub fn finish(&self, on_loss: OnLoss) -> Result<()> {
        (self.on_demand()).map_or(Ok(()), |files| files.memory.finish(on_loss))
    }

    /// Fails if a chunk that was touched could not be opened.
    pub fn check(&self) -> Result<()> {
        self.on_demand()
            .map_or(Ok(()), |files| files.memory.check())
    }

    fn on_demand(&self) -> Option<&Files> {
        match &self.contents {
            Contents::Whole(..) => None,
            Contents::OnDemand(files) => Some(files),
        }
    }

    /// Returns the tier that was opened, or `None` if the model has one edition only. Only the
    /// highest tier's edition is the original.
    pub fn tier(&self) -> Option<&str> {
        self.edition.tier.as_deref()
    }

    /// Returns whether the opened edition is the original, rather than a lower tier's.
    pub fn is_original(&self) -> bool {
        self.edition.is_original
    }

    /// Returns the key that seals blobs of the model, such as compiled code. Each tier has its own.
    pub fn blob_key(&self) -> Arc<BlobKey> {
        Arc::clone(&self.blob_key)
    }

    /// Returns whether all decrypted bytes are locked in memory, out of swap space.
    pub fn is_locked(&self) -> bool {
        match &self.contents {
            Contents::Whole(_, files) => files.iter().all(SecretBytes::is_locked),
            Contents::OnDemand(files) => files.memory.is_locked(),
        }
    }
}
