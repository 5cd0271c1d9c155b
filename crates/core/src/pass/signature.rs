//! Publishers' signatures: the message to sign, and the check of a demanded signature.
//!
//! ```text
//! message = "onnxseal/v1/signature\n"
//!           "manifest " hex(SHA-256(manifest)) "\n"
//!           "tags "     hex(SHA-256(tags)) "\n"
//!           "mac "      hex(onnxseal.mac) "\n"
//!           "files "    hex(SHA-256(SHA-256(chunk) of every chunk, in the order of the tags)) "\n"
//! ```
//!
//! with chunks as they are stored. The message covers all of a protected model except the wrapped
//! data key and the signature itself. It includes tags and MAC because AES-GCM does not commit to a
//! key: anyone could choose a data key, and make tags and a MAC for it over the same ciphertext.

use std::path::Path;

use onnxseal_crypto::signature::{AllowedSigners, Signer};
use onnxseal_crypto::wrap::Identities;
use onnxseal_store::{Input, Progress};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::format::artifact::Artifact;
use crate::format::manifest::Manifest;
use crate::format::tiers::Edition;
use crate::pass::chunks::{self, Chunk, PerChunk};

/// The publishers, one of whom must have signed a model.
#[derive(Clone, Debug)]
pub struct SignedBy {
    /// The publishers that may sign, and their keys.
    pub allowed: AllowedSigners,
    /// The principal that must have signed; any allowed one if absent.
    pub signer: Option<String>,
}

/// What a caller needs to open a model and demands of it: identities, an edition, and possibly a
/// publisher's signature.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The secret keys. One of them must open the data key.
    pub identities: &'a Identities,
    /// The publishers, one of whom must have signed, if a signature is demanded.
    pub signed_by: Option<&'a SignedBy>,
    /// The edition that the caller accepts.
    pub edition: Edition<'a>,
}

impl<'a> From<&'a Identities> for Access<'a> {
    fn from(identities: &'a Identities) -> Access<'a> {
        Access {
            identities,
            signed_by: None,
            edition: Edition::Whole,
        }
    }
}

/// The SHA-256 digests of all chunks as they are stored, taken in any order.
pub(crate) struct Leaves(PerChunk<[u8; 32]>);

impl Leaves {
    pub(crate) fn new(manifest: &Manifest) -> Leaves {
        Leaves(PerChunk::new(manifest))
    }

    /// Takes in a chunk as it is stored. Returns false if it was given before with other bytes.
    pub(crate) fn take(&self, chunk: &Chunk, stored: &[u8]) -> bool {
        self.0.put(chunk, Sha256::digest(stored).into())
    }

    /// Takes in all chunks of `inputs`, the files of `manifest`, and calls `check` with each.
    pub(crate) fn take_all(
        &self,
        manifest: &Manifest,
        inputs: &[&Input],
        progress: &dyn Progress,
        check: impl Fn(&Chunk, &[u8]) -> Result<()> + Sync,
    ) -> Result<()> {
        chunks::read_all(manifest, inputs, progress, |chunk, bytes| {
            self.take(chunk, bytes);
            check(chunk, bytes)
        })?;
        let mut inputs = inputs.iter();
        Ok(inputs.try_for_each(|input| input.check_unchanged())?)
    }

    pub(crate) fn message_of(&self, artifact: &Artifact) -> Result<String> {
        self.message(artifact.manifest_bytes(), &artifact.tags, &artifact.mac)
    }

    pub(crate) fn message(&self, manifest: &[u8], tags: &[u8], mac: &[u8]) -> Result<String> {
        let files = Sha256::digest(self.0.all()?.as_flattened());
        let mut message = "onnxseal/v1/signature\n".to_owned();
        for (name, value) in [
            ("manifest", &Sha256::digest(manifest)[..]),
            ("tags", &Sha256::digest(tags)),
            ("mac", mac),
            ("files", &files),
        ] {
            message += &format!("{name} {}\n", base16ct::lower::encode_string(value));
        }
        Ok(message)
    }
}

/// A demand for a signature, to be checked once all chunks have been taken in.
pub(crate) struct RequiredSignature {
    by: SignedBy,
    pub(crate) leaves: Leaves,
}

impl RequiredSignature {
    /// Demands a signature by one of `by` on the model at `path`.
    pub(crate) fn new(path: &Path, artifact: &Artifact, by: &SignedBy) -> Result<Self> {
        if artifact.signature.is_none() {
            return Err(Error::NotSigned(path.to_owned()));
        }
        let (by, leaves) = (by.clone(), Leaves::new(&artifact.manifest));
        Ok(RequiredSignature { by, leaves })
    }

    pub(crate) fn check(&self, path: &Path, artifact: &Artifact) -> Result<Signer> {
        let message = self.leaves.message_of(artifact)?;
        let SignedBy { allowed, signer } = &self.by;
        let signature = artifact.signature.as_deref().unwrap_or_default();
        let verified = allowed.verify(signer.as_deref(), message.as_bytes(), signature);
        let path = path.to_owned();
        verified.map_err(|source| Error::Signature { path, source })
    }
}
