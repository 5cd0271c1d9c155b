//! Seals the plaintext of a model into a protected model.

use std::path::Path;

use onnxseal_crypto::signature::SigningKey;
use onnxseal_crypto::{DataKey, Direction, TAG_BYTES};
use onnxseal_plan::Gap;
use onnxseal_store::{Input, Progress};

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::{artifact, spans};
use crate::make::audience::Audience;
use crate::open::protected::Unlocked;
use crate::pass::chunks::{Chunk, ChunkIndex, PerChunk};
use crate::pass::outputs::Outputs;
use crate::pass::signature::ChunkHashes;
use crate::pass::states::Volume;
use crate::pass::structure::Structure;
use crate::pass::tiers::Targets;
use crate::pass::transfer::Transfer;

pub(crate) struct Sealing<'a> {
    /// The files to read, in the order of the manifest: all in plaintext, or as in `opens`.
    pub(crate) inputs: Vec<&'a Input>,
    pub(crate) opens: Option<&'a Unlocked>,
    /// The graph of that model, which was planned: each chunk is compared with it before it is opened.
    /// `None` if its model file is among the inputs in plaintext, with other names for external data.
    pub(crate) structure: Option<&'a Structure>,
    /// Bytes of external data files to read as zeros.
    pub(crate) zeroed: Vec<Gap>,
    /// The bytes of the manifest, which the MAC covers.
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) recipients: Audience<'a>,
    /// How much of the weights is encrypted, for the hook.
    pub(crate) weights: Volume,
    pub(crate) signing_key: Option<&'a SigningKey>,
}

impl Sealing<'_> {
    /// Returns the stored tags of all chunks, in order; `None` for each chunk in plaintext.
    fn stored_tags(
        &self,
        manifest: &Manifest,
    ) -> impl Iterator<Item = Option<&[u8; TAG_BYTES]>> + Send {
        let of_model = |manifest| ChunkIndex::new(manifest).range(0).len();
        let (n_plain, n_before) = match (self.opens, self.structure) {
            (None, _) => (manifest.n_chunks() as usize, 0),
            (Some(_), Some(_)) => (0, 0),
            (Some(opens), None) => (of_model(manifest), of_model(opens.manifest())),
        };
        let stored = self.opens.into_iter().flat_map(Unlocked::tags);
        let stored = stored.skip(n_before);
        std::iter::repeat_n(None, n_plain).chain(stored.map(Some))
    }

    /// Writes the protected model to `outputs`, under a new data key and new keys of all tiers.
    pub(crate) fn run(&self, outputs: &Outputs<'_>, progress: &dyn Progress) -> Result<()> {
        let manifest_bytes = &self.manifest_bytes;
        let manifest = &Manifest::parse(manifest_bytes).map_err(Error::Usage)?;
        let (inputs, opens) = (&self.inputs, self.opens);
        let data_key = DataKey::generate()?;
        let tiers = manifest.n_tiers();
        let keys = data_key.seal_keys(manifest_bytes, tiers)?;
        let wrapped = self.recipients.wrap(data_key, manifest)?;
        let path = inputs.first().map_or(Path::new(""), |model| &model.path);
        let mut tags = vec![0; manifest.n_chunks() as usize * TAG_BYTES];
        // Fail early if the known length is too long: from here on, all bytes are read.
        let end = artifact::encode_end(None, &wrapped);
        let shortest = manifest_bytes.len() + tags.len() / 3 * 4 + end.len();
        artifact::check_len(path, manifest.model_bytes(), shortest)?;
        let targets = Targets::of(manifest);
        let upper = &keys.upper;
        // The tags of a tier follow those of all lower tiers.
        let upper_tags: Vec<PerChunk<[u8; TAG_BYTES]>> =
            upper.iter().map(|_| PerChunk::new(manifest)).collect();
        // The data key is new, so bytes that are ciphertext before or after all change.
        let changed = match opens {
            None => &targets.all,
            Some(opens) => &spans::unions(&targets.all, &opens.targets.all),
        };
        let mut transfer = Transfer::new(manifest, inputs.iter().copied(), outputs);
        if self.zeroed.is_empty() {
            transfer.clone_files(changed);
        }
        let signing = self
            .signing_key
            .map(|key| (key, ChunkHashes::new(manifest)));
        let (tag_places, _) = tags.as_chunks_mut::<TAG_BYTES>();
        let items = tag_places.iter_mut().zip(self.stored_tags(manifest));
        transfer.run(items, progress, |chunk, bytes, tools, (tag, stored)| {
            zero(&self.zeroed, chunk, bytes);
            // Compare the graph with the stored bytes, before opening turns them into plaintext.
            if let Some(structure) = self.structure {
                structure.check(chunk, bytes)?;
            }
            if let (Some(opens), Some(stored)) = (opens, stored) {
                opens.open_chunk(chunk, bytes, stored, tools)?;
            }
            targets.apply_higher((manifest, chunk), upper, Direction::Seal, bytes, tools)?;
            let (targets, scratch) = tools.targets(chunk, chunk.file_of(targets.first())?);
            *tag = keys.seal_chunk(chunk.id, bytes, targets, scratch)?.0;
            for (key, tags) in upper.iter().zip(&upper_tags) {
                tags.put(chunk, key.tag(chunk.id, bytes)?.0);
            }
            // The new signature covers the new ciphertext.
            if let Some((_, hashes)) = &signing {
                hashes.take(chunk, bytes);
            }
            Ok(())
        })?;
        // Check a demanded signature of the input now: it has taken in every chunk.
        if let Some(opens) = opens {
            opens.check_signature()?;
        }
        for of_tier in &upper_tags {
            tags.extend_from_slice(of_tier.all()?.as_flattened());
        }
        let mac = keys.macs(&tags);
        let signature = match signing {
            Some((key, hashes)) => {
                let message = hashes.message(manifest_bytes, &tags, &mac)?;
                Some(key.sign(message.as_bytes())?)
            }
            None => None,
        };
        let end = artifact::encode_end(signature.as_deref(), &wrapped);
        let tail = artifact::encode(manifest_bytes, &tags, &mac, manifest.is_locked(), &end);
        artifact::check_len(path, manifest.model_bytes(), tail.len())?;
        outputs.write_tail(&tail, manifest.model_bytes())?;
        // What follows the plaintext in the model file that was read.
        let sealed = opens.filter(|_| self.structure.is_some());
        let old_tail = sealed.map_or(&[][..], |opens| &opens.protected.artifact.tail);
        transfer.finish(old_tail, &tail, Some(self.weights))
    }
}

/// Replaces the bytes of a chunk that lie in `gaps` by zeros.
fn zero(gaps: &[Gap], chunk: &Chunk, bytes: &mut [u8]) {
    let of_file = |gap: &&Gap| gap.file.0 as usize == chunk.file();
    for Gap { span, .. } in gaps.iter().filter(of_file) {
        if let Some(within) = spans::part(*span, chunk.window) {
            bytes.get_mut(within).unwrap_or_default().fill(0);
        }
    }
}
