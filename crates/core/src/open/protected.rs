//! A protected model, before and after an identity has unlocked it.

use std::path::Path;
use std::sync::Arc;

use onnxseal_crypto::signature::Signer;
use onnxseal_crypto::wrap::Identities;
use onnxseal_crypto::{self as crypto, BlobKey, DataKey, Direction, OpenKeys, TAG_BYTES, Tag};
use onnxseal_onnx::model::Span;
use onnxseal_onnx::{excerpt, foreign};
use onnxseal_store::{Input, Location, Progress};

use crate::error::{Error, Result, external as external_error, first, metadata, no_key};
use crate::format::artifact::Artifact;
use crate::format::dates::{Moment, now};
use crate::format::licence::check_in_force;
use crate::format::manifest::Manifest;
use crate::format::tiers::{Edition, OpenedEdition};
use crate::pass::chunks::{self, Chunk, Tools};
#[cfg(feature = "protect")]
use crate::pass::score::{Scorer, Unseen};
use crate::pass::signature::{Access, ChunkHashes, SignedBy};
use crate::pass::source::{Source, check_fetched};
use crate::pass::structure::Structure;
use crate::pass::tiers::Targets;

/// A protected model whose metadata is well-formed.
#[derive(Debug)]
pub(crate) struct Protected {
    pub(crate) artifact: Artifact,
    pub(crate) source: Source,
}

/// A protected model with its data key. The type proves that an identity opens it, and that
/// manifest and tags are authentic.
pub(crate) struct Unlocked {
    pub(crate) protected: Arc<Protected>,
    key: OpenKeys,
    /// The tier of the key; 1 without tiers.
    pub(crate) key_tier: u8,
    tier: u8,
    pub(crate) blob_key: Arc<BlobKey>,
    external: Vec<Input>,
    pub(crate) targets: Targets,
    demand: Option<RequiredSignature>,
}

/// A demand for a signature, to be checked once all chunks have been taken in.
struct RequiredSignature {
    by: SignedBy,
    hashes: ChunkHashes,
}

impl Protected {
    pub(crate) fn open(location: &Location) -> Result<Protected> {
        Protected::of(Source::open(location)?)
    }

    pub(crate) fn of(source: Source) -> Result<Protected> {
        if let Some(artifact) = source.artifact()? {
            return Ok(Protected { artifact, source });
        }
        let structure = source.structure().ok();
        let Some(kind) = structure.and_then(|structure| foreign(structure.bytes())) else {
            return Err(source.not_protected());
        };
        let path = source.input.path.clone();
        let source = onnxseal_onnx::Error::Foreign { kind };
        Err(Error::Model { path, source })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.source.input.path
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.artifact.manifest
    }

    /// Returns the files of the model in the order of the manifest: the model file, then
    /// `external`.
    pub(crate) fn files<'a>(&'a self, external: &'a [Input]) -> impl Iterator<Item = &'a Input> {
        std::iter::once(&self.source.input).chain(external)
    }

    /// Unwraps the key of the highest tier that one of `identities` opens, and authenticates the
    /// manifest and the tags with it.
    pub(crate) fn data_key(&self, identities: &Identities) -> Result<(DataKey, OpenKeys, u8)> {
        let artifact = &self.artifact;
        let path = || self.path().to_owned();
        let (tier, data_key) = (artifact.keys.unwrap(identities)).map_err(|error| match error {
            // The identity is a recipient, but the wrapped key was changed.
            crypto::Error::Unauthentic => Error::Manifest(path()),
            crypto::Error::MalformedKey { .. } | crypto::Error::LimitExceeded { .. } => {
                metadata(self.path())(error.to_string())
            }
            error => no_key(self.path(), error),
        })?;
        let key = artifact.open_keys(tier, &data_key);
        let key = key.ok_or_else(|| Error::Manifest(path()))?;
        Ok((data_key, key, tier))
    }

    /// Returns the tier to open for a caller who accepts `edition` and has the key of `key_tier`.
    pub(crate) fn tier_of(&self, edition: Edition<'_>, key_tier: u8) -> Result<u8> {
        edition.tier_of(self.path(), self.manifest().tier_names(), key_tier)
    }

    /// Unwraps the data key, from a licence if there is one, authenticates the manifest and the tags,
    /// and opens the external files that the manifest names. Fails if the model is not in force. The
    /// result demands a signature if `access` does.
    pub(crate) fn unlock<'a>(
        self: &Arc<Protected>,
        access: impl Into<Access<'a>>,
    ) -> Result<Unlocked> {
        self.unlock_at(access.into(), now())
    }

    /// Unlocks the model as [`Protected::unlock`] does at the time `at`.
    pub(crate) fn unlock_at(
        self: &Arc<Protected>,
        access: Access<'_>,
        at: Moment,
    ) -> Result<Unlocked> {
        let key = self.key_for(&access, at)?;
        check_in_force(self.path(), self.manifest().claims(), at)?;
        self.unlock_with(key, access)
    }

    /// Unlocks the model as [`Protected::unlock`] does, in force or not, with a key that
    /// [`Protected::data_key`] or [`Protected::key_for`] returned.
    pub(crate) fn unlock_with(
        self: &Arc<Protected>,
        (data_key, key, key_tier): (DataKey, OpenKeys, u8),
        access: Access<'_>,
    ) -> Result<Unlocked> {
        let manifest = self.manifest();
        let tier = self.tier_of(access.edition, key_tier)?;
        let keys = data_key.with_lower(key_tier, manifest.n_tiers())?;
        let data_key = keys.get(usize::from(tier) - 1);
        let data_key = data_key.ok_or(Error::Internal("a tier without a key"))?;
        Ok(Unlocked {
            protected: Arc::clone(self),
            key,
            key_tier,
            tier,
            blob_key: Arc::new(data_key.blob_key()?),
            // The paths can be trusted only now: the MAC holds.
            external: self.open_external()?,
            targets: Targets::of(manifest),
            demand: (access.signed_by).map(|by| self.demand(by)).transpose()?,
        })
    }

    fn demand(&self, by: &SignedBy) -> Result<RequiredSignature> {
        if self.artifact.signature.is_none() {
            return Err(Error::NotSigned(self.path().to_owned()));
        }
        let (by, hashes) = (by.clone(), ChunkHashes::new(self.manifest()));
        Ok(RequiredSignature { by, hashes })
    }

    fn check(&self, RequiredSignature { by, hashes }: &RequiredSignature) -> Result<Signer> {
        let message = self.signed_message(hashes)?;
        let signature = self.artifact.signature.as_deref().unwrap_or_default();
        let (signer, path) = (by.signer.as_deref(), self.path().to_owned());
        (by.allowed.verify(signer, message.as_bytes(), signature))
            .map_err(|source| Error::Signature { path, source })
    }

    /// Returns the message that a publisher signs. `hashes` has taken in all chunks.
    pub(crate) fn signed_message(&self, hashes: &ChunkHashes) -> Result<String> {
        let artifact = &self.artifact;
        hashes.message(artifact.manifest_bytes(), &artifact.tags, &artifact.mac)
    }

    /// Checks, without a key, that one of `by` signed the model, and that its chunks agree with
    /// `structure`.
    pub(crate) fn check_signed(
        &self,
        by: &SignedBy,
        structure: Option<&Structure>,
        progress: &dyn Progress,
    ) -> Result<Signer> {
        let demand = self.demand(by)?;
        self.digest_chunks(&demand.hashes, structure, progress)?;
        self.check(&demand)
    }

    /// Reads all chunks as they are stored, compares them with `structure`, and gives them to `hashes`.
    pub(crate) fn digest_chunks(
        &self,
        hashes: &ChunkHashes,
        structure: Option<&Structure>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let external = self.open_external()?;
        let inputs: Vec<&Input> = self.files(&external).collect();
        chunks::read_all(self.manifest(), &inputs, progress, |chunk, bytes| {
            hashes.take(chunk, bytes);
            structure.map_or(Ok(()), |structure| structure.check(chunk, bytes))
        })?;
        Ok(inputs
            .iter()
            .try_for_each(|input| input.check_unchanged())?)
    }

    pub(crate) fn open_external(&self) -> Result<Vec<Input>> {
        let mut external = Vec::new();
        for file in self.manifest().files().iter().skip(1) {
            let input =
                (self.source.input.open_beside(&file.path)).map_err(external_error(self.path()))?;
            check_fetched(&input)?;
            if input.len != file.bytes {
                let (expected, found) = (file.bytes, input.len);
                return Err(Error::Length {
                    path: input.path,
                    expected,
                    found,
                });
            }
            external.push(input);
        }
        Ok(external)
    }
}

impl Unlocked {
    /// Checks a demanded signature before any chunk is opened: reads all chunks. Chunks can then be
    /// opened any number of times, in any order, and must be those that were signed.
    pub(crate) fn check_first(&self, progress: &dyn Progress) -> Result<()> {
        if let Some(demand) = &self.demand {
            (self.protected).digest_chunks(&demand.hashes, None, progress)?;
        }
        self.check_signature().map(drop)
    }

    /// Closes all files.
    pub(crate) fn into_manifest(self) -> Result<Manifest> {
        let protected = Arc::into_inner(self.protected);
        let protected = protected.ok_or(Error::Internal("a model that others use"))?;
        Ok(protected.artifact.manifest)
    }

    pub(crate) fn path(&self) -> &Path {
        self.protected.path()
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.protected.manifest()
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Input> {
        self.protected.files(&self.external)
    }

    /// Returns where the structure of the model file lies, and frees what was read to unlock it.
    pub(crate) fn take_structure(&mut self) -> Result<Vec<Span>> {
        let protected = Arc::get_mut(&mut self.protected);
        protected.map_or(Ok(Vec::new()), |protected| {
            protected.source.take_structure()
        })
    }

    /// Returns the tags of all chunks for the key's tier, in the order of the chunks.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &[u8; TAG_BYTES]> + Send {
        let (tags, _) = self.protected.artifact.tags_of(self.key_tier).as_chunks();
        tags.iter()
    }

    pub(crate) fn edition(&self) -> OpenedEdition {
        let manifest = self.protected.manifest();
        let tier = manifest.tier_names().get(usize::from(self.tier) - 1);
        OpenedEdition {
            tier: tier.cloned(),
            is_original: self.tier == manifest.n_tiers(),
        }
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.files().any(Input::is_remote)
    }

    /// Checks the signature and says who signed, if a signature is demanded.
    ///
    /// Call it after the last chunk is opened. Hand out plaintext only if it succeeds.
    pub(crate) fn check_signature(&self) -> Result<Option<Signer>> {
        let check = |demand| self.protected.check(demand);
        self.demand.as_ref().map(check).transpose()
    }

    /// Reads `chunk` into `bytes`, of the chunk's length, and opens it.
    pub(crate) fn read_chunk(
        &self,
        chunk: &Chunk,
        bytes: &mut [u8],
        tag: &[u8; TAG_BYTES],
        tools: &mut Tools,
    ) -> Result<()> {
        let input = self.files().nth(chunk.file());
        let input = input.ok_or(Error::Internal("a chunk of a file that is not open"))?;
        input.read_exact_at(bytes, chunk.window.start)?;
        self.open_chunk(chunk, bytes, tag, tools)
    }

    /// Reads chunks in order, and opens each in the next of `places`. A thread takes `at_once` chunks
    /// that follow one another.
    pub(crate) fn read_into<'b>(
        &self,
        places: impl Iterator<Item = &'b mut [u8]> + Send,
        at_once: u64,
        progress: &dyn Progress,
    ) -> Result<()> {
        let items = self.tags().zip(places);
        let (is_remote, manifest) = (self.is_remote(), self.manifest());
        chunks::for_each(
            is_remote,
            manifest,
            at_once,
            items,
            progress,
            |workspace, chunk, item| {
                let (tag, bytes) = item;
                self.read_chunk(chunk, bytes, tag, &mut workspace.tools)
            },
        )
    }

    /// Turns `bytes`, the stored bytes of `chunk`, into the authentic plaintext.
    pub(crate) fn open_chunk(
        &self,
        chunk: &Chunk,
        bytes: &mut [u8],
        tag: &[u8; TAG_BYTES],
        tools: &mut Tools,
    ) -> Result<()> {
        // The signature covers the stored bytes: take them in before they are decrypted.
        if let Some(demand) = &self.demand
            && !demand.hashes.take(chunk, bytes)
        {
            return Err(self.changed(chunk));
        }
        let failed = |error| match error {
            crypto::Error::Unauthentic => self.changed(chunk),
            error => Error::Key(error),
        };
        let first = chunk.file_of(self.targets.first())?;
        let (targets, scratch) = tools.targets(chunk, first);
        let opened = (self.key).open_chunk(chunk.id, bytes, targets, &Tag(*tag), scratch);
        opened.map_err(failed)?;
        let keys = self.key.upper(self.tier)?;
        let at = (self.manifest(), chunk);
        (self.targets).apply_higher(at, &keys, Direction::Open, bytes, tools)
    }

    /// Reads every chunk, compares it with `structure`, and opens it: calls `stored` with its bytes as
    /// they are stored, and `opened` with its plaintext.
    pub(crate) fn open_all(
        &self,
        structure: &Structure,
        progress: &dyn Progress,
        stored: impl Fn(&Chunk, &[u8]) + Sync,
        opened: impl Fn(&Chunk, &[u8]) + Sync,
    ) -> Result<()> {
        let inputs: Vec<&Input> = self.files().collect();
        let work = |chunk: &Chunk, bytes: &mut [u8], tools: &mut Tools, tag| {
            stored(chunk, bytes);
            structure.check(chunk, bytes)?;
            self.open_chunk(chunk, bytes, tag, tools)?;
            opened(chunk, bytes);
            Ok(())
        };
        chunks::for_each_read(false, self.manifest(), &inputs, self.tags(), progress, work)
    }

    #[cfg(feature = "protect")]
    pub(crate) fn score(
        &self,
        structure: &Structure,
        model: &onnxseal_onnx::Model<'_>,
        wanted: &[onnxseal_plan::Wanted],
        progress: &dyn Progress,
    ) -> Result<onnxseal_plan::Scores> {
        let scorer = Scorer::new(self.path(), self.manifest(), model, wanted)?;
        let opened = |chunk: &Chunk, bytes: &[u8]| scorer.take(chunk, bytes);
        self.open_all(structure, &Unseen(progress), |_, _| (), opened)?;
        Ok(scorer.finish())
    }

    pub(crate) fn changed(&self, chunk: &Chunk) -> Error {
        let window = chunk.window;
        let path = self
            .files()
            .nth(chunk.file())
            .map(|input| input.path.clone());
        Error::Chunk {
            path: path.unwrap_or_default(),
            start: window.start,
            end: window.end(),
            holds: self.contents(chunk.id.file, window),
        }
    }

    /// Names the contents of `window` of `file`: encrypted tensors, and the graph with all else.
    fn contents(&self, file: u32, window: Span) -> String {
        const NAMED: usize = 3;
        let tensors = self.protected.manifest().tensors().iter().filter(|tensor| {
            let extent = tensor.extent();
            tensor.file == file && extent.start < window.end() && window.start < extent.end()
        });
        let tensors = tensors.map(|tensor| format!("tensor {:?}", excerpt(&tensor.name)));
        let mut contents = first(NAMED, tensors, |n| format!("{n} more tensors"));
        // Weights in clear have no entry in the manifest.
        let encrypted = self.targets.all.get(file as usize).map_or(0, |targets| {
            let mut parts = Vec::new();
            targets.within(window, &mut parts);
            parts.iter().map(|part| part.len() as u64).sum()
        });
        match file {
            _ if encrypted >= window.len => {}
            0 => contents.push("graph".into()),
            _ => contents.push("weights in clear".into()),
        }
        contents.join(", ")
    }
}
