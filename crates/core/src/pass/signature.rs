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

use onnxseal_crypto::signature::AllowedSigners;
use onnxseal_crypto::wrap::Identities;
use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::format::licence::Licence;
use crate::format::tiers::Edition;
use crate::pass::chunks::{Chunk, PerChunk};

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
    /// The licence to open the model with, instead of its own keys.
    pub licence: Option<&'a Licence>,
}

impl<'a> From<&'a Identities> for Access<'a> {
    fn from(identities: &'a Identities) -> Access<'a> {
        Access {
            identities,
            signed_by: None,
            edition: Edition::Whole,
            licence: None,
        }
    }
}

/// The SHA-256 digests of all chunks as they are stored, taken in any order.
pub(crate) type ChunkHashes = PerChunk<[u8; 32]>;

impl ChunkHashes {
    /// Takes in a chunk as it is stored. Returns false if it was given before with other bytes.
    pub(crate) fn take(&self, chunk: &Chunk, stored: &[u8]) -> bool {
        self.put(chunk, Sha256::digest(stored).into())
    }

    pub(crate) fn message(&self, manifest: &[u8], tags: &[u8], mac: &[u8]) -> Result<String> {
        let files = Sha256::digest(self.all()?.as_flattened());
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
