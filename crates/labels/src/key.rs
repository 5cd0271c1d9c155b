//! The key of one user.

use std::fmt;
use std::io::Read;
use std::path::Path;

use base16ct::lower::{decode, encode_string};
use curve25519_dalek::scalar::Scalar;
use onnxseal_crypto::labels::{digest, sha256};
use onnxseal_crypto::wrap::{Identities, MAX_KEY_FILE_BYTES, Recipients, key_text, read_secret};
use onnxseal_store::is_deceptive;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::group::{MAX_COLLUSION, Secrets};

pub const MAX_NAME_CHARS: usize = 128;

/// The most secrets of a key, one for each generator.
const MAX_SECRETS: usize = MAX_COLLUSION as usize + 1;

const HEAD: &str = "# onnxseal label key. Keep it secret: whoever has it reads the labels, and its user is named by what they leak.\nversion = 1\n";

/// A key that decrypts the labels of all models of one authority. Its secrets are zeroized on drop.
pub struct UserKey {
    name: String,
    authority: [u8; 32],
    secrets: Secrets,
}

impl UserKey {
    #[cfg(feature = "vendor")]
    pub(crate) fn new(name: &str, authority: [u8; 32], secrets: Secrets) -> UserKey {
        UserKey {
            name: name.to_owned(),
            authority,
            secrets,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the Ed25519 public key of the authority that made the key.
    pub fn authority(&self) -> [u8; 32] {
        self.authority
    }

    pub(crate) fn secrets(&self) -> &[Scalar] {
        &self.secrets
    }

    /// Returns the id of this user in lists of revoked users.
    pub(crate) fn id(&self) -> [u8; 8] {
        user_id(&self.authority, &self.name)
    }

    /// Reads the text of a key, exactly as [`UserKey::to_text`] writes it.
    pub fn from_text(text: &str) -> Result<UserKey> {
        let malformed = |reason| Error::MalformedKey { reason };
        let rest = text
            .strip_prefix(HEAD)
            .ok_or(malformed("it does not begin like one"))?;
        let mut lines = rest.lines();
        let mut value = |name: &str| {
            let line = lines.next()?;
            let quoted = line.strip_prefix(name)?.strip_prefix(" = \"")?;
            quoted.strip_suffix('"')
        };
        let missing = malformed("a line is missing, or out of its place");
        let (Some(name), Some(authority), Some(secrets), Some(_)) = (
            value("user"),
            value("authority"),
            value("secrets"),
            value("check"),
        ) else {
            return Err(missing);
        };
        check_name(name).map_err(|_| malformed("its user has no name that is one"))?;
        let authority = from_hex(authority).and_then(|bytes| <[u8; 32]>::try_from(&bytes[..]).ok());
        let authority = authority.ok_or(malformed("its authority is not 64 hexadecimal digits"))?;
        let bytes = from_hex(secrets).ok_or(malformed("its secrets are not hexadecimal digits"))?;
        let (scalars, rest) = bytes.as_chunks::<32>();
        let scalars = scalars
            .iter()
            .map(|bytes| Option::<Scalar>::from(Scalar::from_canonical_bytes(*bytes)));
        let secrets = scalars.collect::<Option<Vec<Scalar>>>().map(Zeroizing::new);
        let secrets =
            secrets.filter(|secrets| (2..=MAX_SECRETS).contains(&secrets.len()) && rest.is_empty());
        let key = UserKey {
            name: name.to_owned(),
            authority,
            secrets: secrets.ok_or(malformed("its secrets are not numbers of the group"))?,
        };
        if *key.to_text() == *text {
            Ok(key)
        } else {
            Err(malformed(
                "its check does not fit: it was changed, or damaged",
            ))
        }
    }

    /// Reads a key file, and decrypts it with `identities` if it is an age file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::MalformedKey`], [`Error::Key`] if it does not open.
    pub fn open(path: &Path, identities: Option<&Identities>) -> Result<UserKey> {
        let file = std::fs::File::open(path).map_err(io(path))?;
        UserKey::read(file, path, identities)
    }

    /// Reads a key from an open file; `path` names it in errors.
    pub fn read(file: impl Read, path: &Path, identities: Option<&Identities>) -> Result<UserKey> {
        let bytes = read_secret(file, MAX_KEY_FILE_BYTES).map_err(io(path))?;
        UserKey::from_bytes(&bytes, identities)
    }

    pub fn from_bytes(bytes: &[u8], identities: Option<&Identities>) -> Result<UserKey> {
        let malformed = |reason| Error::MalformedKey { reason };
        if bytes.len() > MAX_KEY_FILE_BYTES {
            return Err(malformed("it is too long"));
        }
        let text = key_text(bytes, identities, "the key")?;
        UserKey::from_text(&text.ok_or(malformed("it is no text"))?)
    }

    pub fn to_text(&self) -> Zeroizing<String> {
        // Allocated once: a string that grows leaves secrets behind.
        let len = HEAD.len() + self.name.len() + 64 * self.secrets.len() + 256;
        let mut text = Zeroizing::new(String::with_capacity(len));
        text.push_str(HEAD);
        text.push_str("user = \"");
        text.push_str(&self.name);
        text.push_str("\"\nauthority = \"");
        text.push_str(&encode_string(&self.authority));
        text.push_str("\"\nsecrets = \"");
        for secret in self.secrets.iter() {
            let secret = Zeroizing::new(secret.to_bytes());
            text.push_str(&Zeroizing::new(encode_string(&*secret)));
        }
        text.push_str("\"\n");
        let check = sha256(text.as_bytes());
        text.push_str("check = \"");
        text.push_str(&encode_string(check.get(..16).unwrap_or_default()));
        text.push_str("\"\n");
        text
    }

    /// Returns the text of the key file, encrypted with age.
    pub fn to_encrypted_text(&self, recipients: &Recipients) -> Result<String> {
        Ok(recipients.encrypt_text(&self.to_text())?)
    }

    /// Mixes two keys, as colluders can. The result decrypts all labels, and cannot be traced to a
    /// user.
    #[doc(hidden)]
    pub fn mixed(&self, other: &UserKey, part: u64) -> UserKey {
        let part = Scalar::from(part);
        let pairs = self.secrets.iter().zip(other.secrets.iter());
        let mixed = pairs.map(|(a, b)| part * a + (Scalar::ONE - part) * b);
        UserKey {
            name: "nobody".into(),
            authority: self.authority,
            secrets: Zeroizing::new(mixed.collect()),
        }
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UserKey {
            name,
            authority: _,
            secrets: _,
        } = self;
        f.debug_struct("UserKey")
            .field("name", name)
            .finish_non_exhaustive()
    }
}

/// `digest(user, authority ‖ name)`, the first 8 bytes.
pub(crate) fn user_id(authority: &[u8; 32], name: &str) -> [u8; 8] {
    let digest = digest("user", &[authority, name.as_bytes()]);
    digest.first_chunk().copied().unwrap_or_default()
}

/// Makes the error for a file at `path` that cannot be read.
pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |source| Error::Io {
        path: path.to_owned(),
        source,
    }
}

pub(crate) fn from_hex(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; digits.len() / 2]);
    decode(digits, &mut bytes).ok()?;
    Some(bytes)
}

pub(crate) fn check_name(name: &str) -> std::result::Result<(), String> {
    let is_odd = |c: char| is_deceptive(c) || c == '"' || c == '\\';
    let n = name.chars().count();
    if (1..=MAX_NAME_CHARS).contains(&n) && !name.contains(is_odd) && name.trim() == name {
        Ok(())
    } else {
        Err(format!(
            "a user's name has 1 to {MAX_NAME_CHARS} characters, no quotes, backslashes, control characters or others that show as something else, and no space around it"
        ))
    }
}
