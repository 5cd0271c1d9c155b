//! Seals the plaintext of a model into a protected model.

use std::path::Path;

use onnxseal_crypto::signature::SigningKey;
use onnxseal_crypto::{DataKey, TAG_BYTES};
use onnxseal_plan::Gap;
use onnxseal_store::{Input, Progress};

use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::format::{artifact, spans};
use crate::make::audience::Audience;
use crate::open::protected::Unlocked;
use crate::pass::chunks::{Chunk, ChunkIndex, PerChunk};
use crate::pass::outputs::Outputs;
use crate::pass::signature::Leaves;
use crate::pass::states::Volume;
use crate::pass::structure::Structure;
use crate::pass::tiers::Targets;
use crate::pass::transfer::Transfer;

pub(crate) struct Sealing<'a> {
    pub(crate) plaintext: Plaintext<'a>,
    /// Bytes of external data files to read as zeros.
    pub(crate) zeroed: Vec<Gap>,
    pub(crate) manifest: Manifest,
    /// The bytes of the manifest, which the MAC covers.
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) recipients: Audience<'a>,
    /// How much of the weights is encrypted, for the hook.
    pub(crate) weights: Volume,
    /// The publisher's key, if the model is signed.
    pub(crate) signing_key: Option<&'a SigningKey>,
}

pub(crate) enum Plaintext<'a> {
    /// These files, in the order of the manifest.
    Files(Vec<&'a Input>),
    /// A protected model, each chunk of which is compared with the graph that was planned, and
    /// opened.
    Sealed(&'a Unlocked, &'a Structure),
    /// A protected model whose external data are opened, and its model file in plaintext with other
    /// names for them.
    Renamed(&'a Unlocked, &'a Input),
}

impl<'a> Plaintext<'a> {
    /// The files to read, in the order of the manifest.
    fn inputs(&self) -> Vec<&'a Input> {
        match self {
            Plaintext::Files(inputs) => inputs.clone(),
            Plaintext::Sealed(unlocked, _) => unlocked.files().collect(),
            Plaintext::Renamed(unlocked, model) => std::iter::once(*model)
                .chain(unlocked.files().skip(1))
                .collect(),
        }
    }

    /// Returns the end of the model file that follows the plaintext.
    fn tail(&self) -> &'a [u8] {
        match self {
            Plaintext::Files(_) | Plaintext::Renamed(..) => &[],
            Plaintext::Sealed(unlocked, _) => &unlocked.protected.artifact.tail,
        }
    }

    /// Returns the protected model whose chunks are opened.
    fn unlocked(&self) -> Option<&'a Unlocked> {
        match self {
            Plaintext::Files(_) => None,
            Plaintext::Sealed(unlocked, _) | Plaintext::Renamed(unlocked, _) => Some(unlocked),
        }
    }

    /// Returns the stored tags of all chunks of `manifest`, in order; `None` for each chunk of a file
    /// in clear.
    fn stored_tags(
        &self,
        manifest: &Manifest,
    ) -> Box<dyn Iterator<Item = Option<&[u8; TAG_BYTES]>> + Send + '_> {
        match self {
            Plaintext::Files(_) => Box::new(std::iter::repeat(None)),
            Plaintext::Sealed(unlocked, _) => Box::new(unlocked.tags().map(Some)),
            Plaintext::Renamed(unlocked, _) => {
                let of_model = |manifest| ChunkIndex::new(manifest).range(0).len();
                let clear = std::iter::repeat_n(None, of_model(manifest));
                let external = unlocked.tags().skip(of_model(unlocked.manifest()));
                Box::new(clear.chain(external.map(Some)))
            }
        }
    }
}

impl Sealing<'_> {
    /// Writes the protected model to `outputs`, under a new data key and new keys of all tiers.
    pub(crate) fn run(self, outputs: &Outputs<'_>, progress: &dyn Progress) -> Result<()> {
        let Sealing {
            manifest,
            manifest_bytes,
            plaintext,
            zeroed,
            ..
        } = self;
        let data_key = DataKey::generate()?;
        let tiers = manifest.n_tiers();
        let keys = data_key.seal_keys(&manifest_bytes, tiers)?;
        let wrapped = self.recipients.wrap(data_key, &manifest)?;
        let inputs = plaintext.inputs();
        let path = inputs.first().map_or(Path::new(""), |model| &model.path);
        let mut tags = vec![0; manifest.n_chunks() as usize * TAG_BYTES];
        // Fail early if the known length is too long: from here on, all bytes are read.
        let end = artifact::encode_end(None, &wrapped);
        let shortest = manifest_bytes.len() + tags.len() / 3 * 4 + end.len();
        artifact::check_len(path, manifest.model_bytes(), shortest)?;
        let targets = Targets::of(&manifest);
        let upper = &keys.upper;
        // The tags of a tier follow those of all lower tiers.
        let upper_tags: Vec<PerChunk<[u8; TAG_BYTES]>> =
            upper.iter().map(|_| PerChunk::new(&manifest)).collect();
        // The data key is new, so bytes that are ciphertext before or after all change.
        let changed = match plaintext.unlocked() {
            None => &targets.all,
            Some(unlocked) => &spans::unions(&targets.all, &unlocked.targets.all),
        };
        let mut transfer = Transfer::new(&manifest, inputs.iter().copied(), outputs);
        if zeroed.is_empty() {
            transfer.clone_files(changed);
        }
        let leaves = self.signing_key.map(|_| Leaves::new(&manifest));
        let (tag_places, _) = tags.as_chunks_mut::<TAG_BYTES>();
        let items = tag_places.iter_mut().zip(plaintext.stored_tags(&manifest));
        transfer.run(items, progress, |chunk, bytes, tools, (tag, stored)| {
            zero(&zeroed, chunk, bytes);
            // Compare the graph with the stored bytes, before opening turns them into plaintext.
            if let Plaintext::Sealed(_, structure) = &plaintext {
                structure.check(chunk, bytes)?;
            }
            if let (Some(unlocked), Some(stored)) = (plaintext.unlocked(), stored) {
                unlocked.open_chunk(chunk, bytes, stored, tools)?;
            }
            (targets.higher).seal(&manifest, upper, chunk, bytes, tools)?;
            let (targets, scratch) = tools.targets(chunk, chunk.file_of(targets.first())?);
            *tag = keys.seal_chunk(chunk.id, bytes, targets, scratch)?.0;
            for (key, tags) in upper.iter().zip(&upper_tags) {
                tags.put(chunk, key.tag(chunk.id, bytes)?.0);
            }
            // The new signature covers the new ciphertext.
            if let Some(leaves) = &leaves {
                leaves.take(chunk, bytes);
            }
            Ok(())
        })?;
        // Check a demanded signature of the input now: it has taken in every chunk.
        if let Some(unlocked) = plaintext.unlocked() {
            unlocked.check_signature()?;
        }
        for of_tier in &upper_tags {
            tags.extend_from_slice(of_tier.all()?.as_flattened());
        }
        let mac = keys.macs(&tags);
        let signature = match (self.signing_key, leaves) {
            (Some(signing_key), Some(leaves)) => {
                let message = leaves.message(&manifest_bytes, &tags, &mac)?;
                Some(signing_key.sign(message.as_bytes())?)
            }
            _ => None,
        };
        let end = artifact::encode_end(signature.as_deref(), &wrapped);
        let tail = artifact::encode(&manifest_bytes, &tags, &mac, manifest.is_locked(), &end);
        artifact::check_len(path, manifest.model_bytes(), tail.len())?;
        outputs.write_tail(&tail, manifest.model_bytes())?;
        transfer.finish(plaintext.tail(), &tail, Some(self.weights))
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
