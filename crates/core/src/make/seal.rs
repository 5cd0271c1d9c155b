//! Sealing: makes a protected model of a model's plaintext.

use onnxseal_crypto::signature::SigningKey;
use onnxseal_crypto::{DataKey, TAG_BYTES};
use onnxseal_store::{Input, Progress};

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::{artifact, spans};
use crate::make::audience::Audience;
use crate::open::protected::Unlocked;
use crate::pass::chunks::PerChunk;
use crate::pass::outputs::Outputs;
use crate::pass::signature::Leaves;
use crate::pass::states::Volume;
use crate::pass::structure::Structure;
use crate::pass::tiers::Targets;
use crate::pass::transfer::Transfer;

/// A plaintext that is to be sealed, and its recipients.
pub(crate) struct Sealing<'a> {
    pub(crate) plaintext: Plaintext<'a>,
    pub(crate) manifest: Manifest,
    /// The manifest's bytes, which are authenticated.
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) recipients: Audience<'a>,
    /// How much of the weights is encrypted, for the hook.
    pub(crate) weights: Volume,
    /// The publisher's key, if the model is signed.
    pub(crate) signing_key: Option<&'a SigningKey>,
}

/// Where the plaintext comes from.
pub(crate) enum Plaintext<'a> {
    /// From these files, in the order of the manifest.
    Files(Vec<&'a Input>),
    /// From a protected model: each chunk is compared with the graph that was looked at, and opened.
    Sealed(&'a Unlocked<'a>, &'a Structure<'a>),
}

impl<'a> Plaintext<'a> {
    /// The files to read, in the order of the manifest.
    fn inputs(&self) -> Vec<&'a Input> {
        match self {
            Plaintext::Files(inputs) => inputs.clone(),
            Plaintext::Sealed(unlocked, _) => unlocked.files().collect(),
        }
    }

    /// The end of the model file that is not plaintext.
    fn tail(&self) -> &'a [u8] {
        match self {
            Plaintext::Files(_) => &[],
            Plaintext::Sealed(unlocked, _) => unlocked.tail(),
        }
    }

    /// The stored tags of all chunks, in their order. Files in clear have none, for every chunk.
    fn stored_tags(&self) -> Box<dyn Iterator<Item = Option<&[u8; TAG_BYTES]>> + Send + '_> {
        match self {
            Plaintext::Files(_) => Box::new(std::iter::repeat(None)),
            Plaintext::Sealed(unlocked, _) => Box::new(unlocked.tags().map(Some)),
        }
    }
}

impl Sealing<'_> {
    /// Writes the protected model to `outputs`, under a new data key, with new keys of all tiers.
    pub(crate) fn run(self, outputs: &Outputs<'_>, progress: &dyn Progress) -> Result<()> {
        let Sealing {
            manifest,
            manifest_bytes,
            plaintext,
            ..
        } = self;
        let data_key = DataKey::generate().map_err(Error::Key)?;
        let tiers = manifest.n_tiers();
        let keys = data_key.seal_tiers(&manifest_bytes, tiers);
        let keys = keys.map_err(Error::Key)?;
        let wrapped = self.recipients.wrap(data_key, &manifest)?;
        let path = plaintext.inputs().first().map(|model| model.path.clone());
        let path = path.unwrap_or_default();
        let mut tags = vec![0; manifest.n_chunks() as usize * TAG_BYTES];
        // At once, as far as the length is known: all bytes are read from here on.
        let end = artifact::encode_end(None, &wrapped);
        let shortest = manifest_bytes.len() + tags.len() / 3 * 4 + end.len();
        artifact::check_len(&path, manifest.model_bytes(), shortest)?;
        let targets = Targets::of(&manifest);
        let upper = &keys.upper;
        // The tags of a tier above the first come after those of all lower ones.
        let upper_tags: Vec<PerChunk<[u8; TAG_BYTES]>> =
            upper.iter().map(|_| PerChunk::new(&manifest)).collect();
        // Bytes that are ciphertext on either side differ: a new data key gives other ciphertext.
        let changed = match &plaintext {
            Plaintext::Files(_) => &targets.all,
            Plaintext::Sealed(unlocked, _) => &spans::unions(&targets.all, &unlocked.targets.all),
        };
        let mut transfer = Transfer::new(&manifest, plaintext.inputs().into_iter(), outputs);
        transfer.clone_files(changed);
        let leaves = self.signing_key.map(|_| Leaves::new(&manifest));
        let (tag_places, _) = tags.as_chunks_mut::<TAG_BYTES>();
        let items = tag_places.iter_mut().zip(plaintext.stored_tags());
        transfer.run(items, progress, |chunk, bytes, tools, (tag, stored)| {
            // The graph is compared as it is stored: opening turns the bytes into plaintext.
            if let (Plaintext::Sealed(unlocked, structure), Some(stored)) = (&plaintext, stored) {
                structure.check(chunk, bytes)?;
                unlocked.open_chunk(chunk, bytes, stored, tools)?;
            }
            (targets.higher).seal(&manifest, upper, chunk, bytes, tools)?;
            let (targets, scratch) = tools.targets(chunk, chunk.file_of(targets.first())?);
            let sealed = (keys.first).seal_chunk(chunk.id, bytes, targets, scratch);
            *tag = sealed.map_err(Error::Key)?.0;
            for (key, tags) in upper.iter().zip(&upper_tags) {
                tags.put(chunk, key.tag(chunk.id, bytes).map_err(Error::Key)?.0);
            }
            // The new signature is over the new ciphertext.
            if let Some(leaves) = &leaves {
                leaves.take(chunk, bytes);
            }
            Ok(())
        })?;
        // The old signature, if one is demanded: all chunks were taken in as they were opened.
        if let Plaintext::Sealed(unlocked, _) = &plaintext {
            unlocked.check_signature()?;
        }
        for of_tier in &upper_tags {
            tags.extend_from_slice(of_tier.all()?.as_flattened());
        }
        let mac = keys.macs(&tags);
        let signature = match (self.signing_key, leaves) {
            (Some(signing_key), Some(leaves)) => {
                let message = leaves.message(&manifest_bytes, &tags, &mac)?;
                Some(signing_key.sign(message.as_bytes()).map_err(Error::Key)?)
            }
            _ => None,
        };
        let end = artifact::encode_end(signature.as_deref(), &wrapped);
        let tail = artifact::encode(&manifest_bytes, &tags, &mac, manifest.lock, &end);
        artifact::check_len(&path, manifest.model_bytes(), tail.len())?;
        outputs.write_tail(&tail, manifest.model_bytes())?;
        transfer.finish(plaintext.tail(), &tail, Some(self.weights))
    }
}
