//! The vendor's secret, from which all marks derive.

use std::io::Read;
use std::path::Path;

use onnxseal_crypto::Error as KeyError;
use onnxseal_crypto::fingerprint::MarkSeed;
use onnxseal_crypto::wrap::{Identities, MAX_KEY_FILE_BYTES, Recipients, key_text, read_secret};
use onnxseal_store::is_deceptive;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The most characters of a customer's name.
const MAX_NAME_CHARS: usize = 128;

const HEAD: &str = "# onnxseal fingerprint secret. Keep it: only with it are leaks traced, and whoever has it can make any customer's mark.\nversion = 1\nseed = \"";

/// The secret of a vendor. One secret serves all models and customers.
#[derive(Debug)]
pub struct Secret(pub(crate) MarkSeed);

impl Secret {
    pub fn generate() -> Result<Secret> {
        Ok(Secret(MarkSeed::generate()?))
    }

    /// Reads the text of a secret, as [`Secret::to_text`] writes it; other comments may stand there.
    pub fn from_text(text: &str) -> Result<Secret> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let seed = match lines.collect::<Vec<_>>()[..] {
            ["version = 1", seed] => seed
                .strip_prefix("seed = \"")
                .and_then(|seed| seed.strip_suffix('"')),
            _ => None,
        };
        let seed = seed.and_then(MarkSeed::from_hex);
        // Messages quote no part of the file.
        seed.map(Secret).ok_or(malformed(
            "it has other lines than `version = 1` and `seed = \"64 lowercase hexadecimal digits\"`",
        ))
    }

    /// Reads a secret from the bytes of a file, and decrypts it with `identities` if it is an age
    /// file.
    pub fn from_bytes(bytes: &[u8], identities: Option<&Identities>) -> Result<Secret> {
        if bytes.len() > MAX_KEY_FILE_BYTES {
            return Err(malformed("it is too long"));
        }
        let text = key_text(bytes, identities, "the fingerprint secret")?;
        Secret::from_text(&text.ok_or(malformed("it is no text"))?)
    }

    /// Reads a secret from an open file; `path` names it in errors.
    pub fn read(file: impl Read, path: &Path, identities: Option<&Identities>) -> Result<Secret> {
        let failed = |fault| KeyError::Io(path.display().to_string(), fault);
        let bytes = read_secret(file, MAX_KEY_FILE_BYTES).map_err(failed)?;
        Secret::from_bytes(&bytes, identities)
    }

    /// Returns the text of the secret's file.
    pub fn to_text(&self) -> Zeroizing<String> {
        // Allocated once: a string that grows leaves secrets behind.
        let mut text = Zeroizing::new(String::with_capacity(HEAD.len() + 128));
        text.push_str(HEAD);
        text.push_str(&self.0.to_hex());
        text.push_str("\"\n");
        text
    }

    /// Returns the text of the secret's file, encrypted with age.
    pub fn to_encrypted_text(&self, recipients: &Recipients) -> Result<String> {
        Ok(recipients.encrypt_text(&self.to_text())?)
    }
}

fn malformed(reason: &'static str) -> Error {
    Error::MalformedSecret { reason }
}

/// Fails unless a text may be the name of a customer.
pub fn check_customer(name: &str) -> Result<()> {
    let n = name.chars().count();
    if (1..=MAX_NAME_CHARS).contains(&n) && !name.contains(is_deceptive) && name.trim() == name {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "a customer's name has 1 to {MAX_NAME_CHARS} characters, none of them control characters or others that show as something else, and no space around it"
    )))
}
