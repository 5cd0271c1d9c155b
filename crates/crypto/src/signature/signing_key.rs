//! Private keys that sign.

use std::io::Read;

use ssh_key::HashAlg;
use ssh_key::private::PrivateKey;
use ssh_key::public::KeyData;

use super::{NAMESPACE, armor, encode, fingerprint, holds};
use crate::error::Error;
use crate::limited::read_limited;
use crate::wrap::{Passphrase, decrypt};

/// The longest private key file to read, in bytes.
pub const MAX_SIGNING_KEY_BYTES: usize = 64 << 10;

/// A private ed25519 key that signs, zeroized on drop. `ssh-keygen` signs with keys of other types.
pub struct SigningKey(Box<PrivateKey>);

opaque_debug!(SigningKey);

impl SigningKey {
    /// Reads an OpenSSH private key, as `ssh-keygen -t ed25519` writes it. `passphrase` is called
    /// only if it is encrypted. `name` is for error messages.
    pub fn read(
        file: impl Read,
        name: &str,
        passphrase: impl FnOnce() -> Result<Passphrase, Error>,
    ) -> Result<SigningKey, Error> {
        let unusable =
            |reason| Error::unusable(name, format_args!("cannot sign with it: {reason}"));
        let text = read_limited(file, name, MAX_SIGNING_KEY_BYTES, "signing key file length")?;
        if let Some(reason) = other_than_private(&text) {
            return Err(unusable(reason));
        }
        let malformed = || unusable("the private key is malformed");
        let key = PrivateKey::from_openssh(&*text).map_err(|_| malformed())?;
        // Check before asking for a passphrase. Decrypting fails if the secret is another key's.
        if !matches!(key.public_key().key_data(), KeyData::Ed25519(_)) {
            let other =
                "only ed25519 keys sign here; sign with `ssh-keygen -Y sign -n onnxseal` instead";
            return Err(unusable(other));
        }
        let key = decrypt(key, name, passphrase)?.ok_or_else(malformed)?;
        Ok(SigningKey(Box::new(key)))
    }

    /// Returns the key's type in OpenSSH's notation, such as `ssh-ed25519`.
    pub fn key_type(&self) -> String {
        self.0.algorithm().to_string()
    }

    pub fn fingerprint(&self) -> String {
        fingerprint(self.0.public_key().key_data())
    }

    /// Signs `message`: an armored SSHSIG in our namespace, with SHA-512.
    pub fn sign(&self, message: &[u8]) -> Result<String, Error> {
        let signed = self.0.sign(NAMESPACE, HashAlg::Sha512, message);
        let signed = signed.map_err(|_| Error::Backend)?;
        holds(&signed, message).map_err(|_| Error::Backend)?;
        Ok(armor(&encode(&signed).map_err(|_| Error::Backend)?))
    }
}

/// Says what a file contains instead of an OpenSSH private key.
fn other_than_private(text: &[u8]) -> Option<&'static str> {
    let text = text.trim_ascii_start();
    let starts = |prefix: &str| text.starts_with(prefix.as_bytes());
    if starts("-----BEGIN OPENSSH PRIVATE KEY-----") {
        None
    } else if ["ssh-", "ecdsa-", "sk-"].into_iter().any(starts) {
        Some(
            "it is a public key; name the private key, or where that is in an agent or a security \
             key, sign with `ssh-keygen -Y sign -n onnxseal`",
        )
    } else if starts("-----BEGIN ") {
        Some("it is no OpenSSH private key; `ssh-keygen -p -f FILE` makes one of older PEM formats")
    } else {
        Some("it is no OpenSSH private key")
    }
}
