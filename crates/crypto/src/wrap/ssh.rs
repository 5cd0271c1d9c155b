//! ssh keys as recipients and identities. The crate `ssh-key` first reads them strictly: age
//! ignores bytes after a public key's expected length, panics at numbers of zero bytes, and wraps
//! to points whose shared secrets everybody knows.

use age::ssh::{Identity, ParseRecipientKeyError, Recipient, UnsupportedKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_key::{Algorithm, Kdf, LineEnding, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::limited::check_limit;
use crate::wrap::prompt::{Passphrase, Prompt, ask};
use crate::wrap::{LOW_ORDER, malformed_identities};

/// The most rounds of bcrypt for a private key's passphrase, some minutes of work; `ssh-keygen`
/// uses 24 by default.
pub const MAX_BCRYPT_ROUNDS: u32 = 4096;

const BEGIN_OPENSSH: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END_OPENSSH: &str = "-----END OPENSSH PRIVATE KEY-----";
const BEGIN_RSA: &str = "-----BEGIN RSA PRIVATE KEY-----";
const BEGIN_PKCS8: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----",
];

/// Decrypts a private key if it is encrypted, unless its passphrase would take too long to try.
/// Returns `None` if its encryption is damaged or of an unknown kind.
pub(crate) fn decrypt(
    key: PrivateKey,
    name: &str,
    passphrase: impl FnOnce() -> Result<Passphrase, Error>,
) -> Result<Option<PrivateKey>, Error> {
    if !key.is_encrypted() {
        return Ok(Some(key));
    }
    if let Kdf::Bcrypt { rounds, .. } = key.kdf() {
        let what = "bcrypt rounds of an ssh key's passphrase";
        check_limit(*rounds as usize, MAX_BCRYPT_ROUNDS as usize, what)?;
    }
    match key.decrypt(passphrase()?.expose()) {
        Err(ssh_key::Error::Crypto) => Err(Error::WrongPassphrase(name.to_owned())),
        decrypted => Ok(decrypted.ok()),
    }
}

pub(super) fn looks_public(text: &str) -> bool {
    let starts = |prefix| text.starts_with(prefix);
    ["ssh-", "ecdsa-", "sk-"].into_iter().any(starts)
}

/// Reads a public key. The error says what the text is instead.
pub(super) fn recipient(text: &str) -> Result<Recipient, &'static str> {
    match text.split(' ').next().unwrap_or_default() {
        "ssh-ed25519" | "ssh-rsa" => {}
        kind if kind.starts_with("sk-") => {
            return Err(
                "an ssh key of a hardware token, which can sign but not decrypt: use a plugin such as age-plugin-yubikey",
            );
        }
        _ => {
            return Err(
                "an ssh key of a type that age cannot encrypt to: use ssh-ed25519 or ssh-rsa",
            );
        }
    }
    const DAMAGED: &str = "an incomplete or damaged ssh public key";
    let key = PublicKey::from_openssh(text).map_err(|_| DAMAGED)?;
    let bare = PublicKey::new(key.key_data().clone(), "").to_openssh();
    let recipient = bare.map_err(|_| DAMAGED)?.parse();
    let recipient = recipient.map_err(|fault| match fault {
        ParseRecipientKeyError::RsaModulusTooSmall => {
            "an RSA key of less than 2048 bits, which is weak"
        }
        ParseRecipientKeyError::RsaModulusTooLarge => {
            "an RSA key of more than 4096 bits, which age does not take"
        }
        _ => DAMAGED,
    })?;
    match &recipient {
        // The secret shared with such a point does not depend on the secret key.
        Recipient::SshEd25519(_, point) if point.is_small_order() => Err(LOW_ORDER),
        _ => Ok(recipient),
    }
}

pub(super) fn looks_private(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(b"-----BEGIN ")
}

/// Reads a private key, and asks for its passphrase if it has one.
pub(super) fn read_private(
    file: &[u8],
    name: &str,
    prompt: &dyn Prompt,
) -> Result<Identity, Error> {
    let malformed = |reason: &str| malformed_identities(name, reason);
    let text = str::from_utf8(file.trim_ascii()).map_err(|_| malformed("it is no text"))?;
    if text.starts_with(BEGIN_RSA) {
        return match Identity::from_buffer(text.as_bytes(), None) {
            Ok(key @ Identity::Unencrypted(_)) => Ok(key),
            Ok(Identity::Unsupported(UnsupportedKey::EncryptedPem)) => Err(malformed(
                "its passphrase is of an old kind: `ssh-keygen -p -f FILE` renews it",
            )),
            _ => Err(malformed("it is no intact RSA private key")),
        };
    }
    if BEGIN_PKCS8.iter().any(|begin| text.starts_with(begin)) {
        let reason = "it is a key in PKCS#8: `ssh-keygen -p -f FILE` turns it into one of OpenSSH";
        return Err(malformed(reason));
    }
    let body = text
        .strip_prefix(BEGIN_OPENSSH)
        .and_then(|rest| rest.strip_suffix(END_OPENSSH))
        .ok_or_else(|| {
            malformed("it is a key of another kind: age identities and ssh keys will do")
        })?;

    let key = decode(body).ok_or_else(|| malformed("it is no intact ssh private key"))?;
    // The public half is in clear: check it before asking for the passphrase of an unusable key.
    match key.public_key().algorithm() {
        Algorithm::Ed25519 | Algorithm::Rsa { .. } => {}
        other => {
            let reason = format!(
                "age cannot decrypt with an ssh key of type {other}: use ssh-ed25519 or ssh-rsa"
            );
            return Err(malformed(&reason));
        }
    }
    let key = decrypt(key, name, || ask(prompt, "the ssh key", name))?
        .ok_or_else(|| malformed("its encryption is damaged or of an unknown kind"))?;
    into_age(&key).ok_or_else(|| malformed("it is no usable ssh private key"))
}

/// Decodes the key between the two lines of PEM.
fn decode(body: &str) -> Option<PrivateKey> {
    // Allocated once: a buffer that grows leaves secrets behind.
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; base64.len()]);
    let len = STANDARD.decode_slice(base64.as_bytes(), &mut bytes).ok()?;
    PrivateKey::from_bytes(bytes.get(..len)?).ok()
}

/// Hands the key to age as text. age does not zeroize its buffers.
fn into_age(key: &PrivateKey) -> Option<Identity> {
    let text = key.to_openssh(LineEnding::LF).ok()?;
    match Identity::from_buffer(text.as_bytes(), None) {
        Ok(key @ Identity::Unencrypted(_)) => Some(key),
        _ => None,
    }
}
