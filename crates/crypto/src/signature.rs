//! Publishers' signatures: SSHSIG, as `ssh-keygen -Y sign -n onnxseal` makes them, by keys that an
//! OpenSSH `allowed_signers` file allows.
//!
//! A signature can cover any message; `docs/SIGNING.md` says what ours cover. The format is
//! OpenSSH's `PROTOCOL.sshsig`:
//!
//! ```text
//! "SSHSIG"  u32 version = 1  string public key  string namespace = "onnxseal"
//! string reserved = ""  string hash = "sha256" | "sha512"  string signature
//! ```
//!
//! in base64 of 70 columns between `-----BEGIN SSH SIGNATURE-----` and its end. The signature
//! covers these parts without version and key, and with the hash of the message instead of the last
//! part. Only the encoding that `ssh-keygen` writes is accepted.

mod allowed_signers;
mod signing_key;

pub use allowed_signers::{AllowedSigners, MAX_ALLOWED_SIGNERS_BYTES};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
pub use signing_key::{MAX_SIGNING_KEY_BYTES, SigningKey};
use ssh_encoding::{Decode as _, Encode as _};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey, SshSig};

use crate::error::{Error, start_of};
use crate::limited::check_limit;

/// SSHSIG namespace of our signatures.
pub const NAMESPACE: &str = "onnxseal";

/// The longest armored signature to read, in bytes. One by a 4096-bit RSA key has some 1,600.
pub const MAX_SIGNATURE_BYTES: usize = 16 << 10;

/// The accepted lengths of RSA moduli, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

const MAGIC: &[u8] = b"SSHSIG";
/// The first line of an armored signature.
pub const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
/// The last line of an armored signature.
pub const END: &str = "-----END SSH SIGNATURE-----\n";
const ARMOR_COLUMNS: usize = 70;
/// The bytes that a security key appends to a signature: flags (u8) and counter (u32).
const SECURITY_KEY_TRAILER_BYTES: usize = 5;
const MAX_SHOWN_CHARS: usize = 64;

/// The signer of a message, from an [`AllowedSigners`] file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// The requested principal, or else the patterns of all principals with this key in the file.
    pub principals: Vec<String>,
    /// The key's fingerprint, `SHA256:...`.
    pub fingerprint: String,
    /// The key's type as OpenSSH names it, such as `ssh-ed25519`.
    pub key_type: String,
}

/// The signer that a signature claims, unverified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimedSigner {
    /// The key's type as OpenSSH names it, such as `ssh-ed25519`.
    pub key_type: String,
    /// The key's fingerprint, `SHA256:...`.
    pub fingerprint: String,
}

/// Parses an armored signature and returns the key that it claims. Anyone can put any key there;
/// only [`AllowedSigners::verify`] proves the claim.
pub fn fingerprint_of(armored: &str) -> Result<ClaimedSigner, Error> {
    parse(armored).map(|signature| claimed(&signature))
}

/// Checks an armored signature over `message` with the key that it names itself. This proves that
/// the holder of that key signed, but not who that is.
pub fn check(message: &[u8], armored: &str) -> Result<ClaimedSigner, Error> {
    let signature = parse(armored)?;
    holds(&signature, message)?;
    Ok(claimed(&signature))
}

fn claimed(signature: &SshSig) -> ClaimedSigner {
    ClaimedSigner {
        fingerprint: fingerprint(signature.public_key()),
        key_type: signature.public_key().algorithm().to_string(),
    }
}

// --- signatures ---

/// Parses a signature of a kind that [`holds`] can verify.
fn parse(armored: &str) -> Result<SshSig, Error> {
    let blob = dearmor(armored)?;
    let mut reader = blob.as_slice();
    check_key_type(reader)?;
    let signature = SshSig::decode(&mut reader).map_err(|_| malformed("it is no SSH signature"))?;
    let canonical = encode(&signature).map_err(|_| malformed("it is no SSH signature"))?;
    if canonical != blob {
        return Err(malformed("its encoding is not canonical"));
    }
    if signature.version() != SshSig::VERSION || !signature.reserved().is_empty() {
        return Err(malformed("its version is unknown"));
    }
    if signature.namespace() != NAMESPACE {
        return Err(malformed(format!(
            "its namespace is \"{}\", expected \"{NAMESPACE}\"",
            shown(signature.namespace())
        )));
    }
    check_rsa_bits(signature.public_key()).map_err(malformed)?;
    let fits = match (signature.public_key().algorithm(), signature.algorithm()) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { hash }) => hash.is_some(),
        (key, signature) => key == signature,
    };
    if fits {
        Ok(signature)
    } else {
        Err(malformed("its algorithm is not that of its key"))
    }
}

/// Names the type of an unsupported key, which would otherwise only be called malformed.
fn check_key_type(mut blob: &[u8]) -> Result<(), Error> {
    let mut read = || {
        blob = blob.strip_prefix(MAGIC)?;
        u32::decode(&mut blob).ok()?;
        u32::decode(&mut blob).ok()?;
        String::decode(&mut blob).ok()
    };
    let name = read().ok_or_else(|| malformed("it is no SSH signature"))?;
    match name.parse() {
        Ok(
            Algorithm::Ed25519
            | Algorithm::Ecdsa {
                curve: EcdsaCurve::NistP256,
            }
            | Algorithm::Rsa { hash: None }
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::SkEd25519,
        ) => Ok(()),
        _ => Err(malformed(format!(
            "keys of type \"{}\" are not supported",
            shown(&name)
        ))),
    }
}

/// Checks that `signature`, which is in our namespace, is one of `message`.
fn holds(signature: &SshSig, message: &[u8]) -> Result<(), Error> {
    PublicKey::from(signature.public_key().clone())
        .verify(NAMESPACE, message, signature)
        .map_err(|_| Error::BadSignature)
}

/// Serialises a signature.
///
/// `ssh-key` can too, but it puts a security key's appended bytes inside an ECDSA signature.
fn encode(signature: &SshSig) -> Result<Vec<u8>, ssh_encoding::Error> {
    let part = signature.signature();
    let trailer = match part.algorithm() {
        Algorithm::SkEcdsaSha2NistP256 | Algorithm::SkEd25519 => SECURITY_KEY_TRAILER_BYTES,
        _ => 0,
    };
    let (bytes, n_bytes) = (part.as_bytes(), part.as_bytes().len());
    let n_own = n_bytes.checked_sub(trailer);
    let (own, trailer) = bytes.split_at(n_own.ok_or(ssh_encoding::Error::Length)?);
    let mut encoded = Vec::new();
    part.algorithm().encode(&mut encoded)?;
    own.encode(&mut encoded)?;
    encoded.extend_from_slice(trailer);

    let mut blob = MAGIC.to_vec();
    signature.version().encode(&mut blob)?;
    signature.public_key().encode_prefixed(&mut blob)?;
    signature.namespace().encode(&mut blob)?;
    signature.reserved().encode(&mut blob)?;
    signature.hash_alg().encode(&mut blob)?;
    encoded.encode(&mut blob)?;
    Ok(blob)
}

fn armor(blob: &[u8]) -> String {
    let text = STANDARD.encode(blob);
    let mut armored = BEGIN.to_owned();
    for line in text.as_bytes().chunks(ARMOR_COLUMNS) {
        armored.push_str(&String::from_utf8_lossy(line));
        armored.push('\n');
    }
    armored + END
}

/// Removes the armor, if the text is exactly what [`armor`] would write.
fn dearmor(armored: &str) -> Result<Vec<u8>, Error> {
    let what = "signature length in bytes";
    check_limit(armored.len(), MAX_SIGNATURE_BYTES, what)?;
    let body = armored.strip_prefix(BEGIN);
    let body = body.and_then(|rest| rest.strip_suffix(END));
    let blob = body.and_then(|body| STANDARD.decode(body.replace('\n', "")).ok());
    let blob = blob.ok_or_else(|| malformed("its armor is invalid"))?;
    if armor(&blob) == armored {
        Ok(blob)
    } else {
        Err(malformed("its armor is not canonical"))
    }
}

// --- keys ---

fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn check_rsa_bits(key: &KeyData) -> Result<(), &'static str> {
    let Some(key) = key.rsa() else {
        return Ok(());
    };
    let modulus = key.n.as_positive_bytes().unwrap_or_default();
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    if RSA_BITS.contains(&(8 * modulus.len() - unused as usize)) {
        return Ok(());
    }
    Err("RSA keys must have 2048 to 4096 bits")
}

/// Returns the start of an untrusted text, without characters that control a terminal.
fn shown(text: &str) -> String {
    start_of(text, MAX_SHOWN_CHARS).escape_debug().to_string()
}

fn malformed(reason: impl Into<String>) -> Error {
    Error::MalformedSignature(reason.into())
}

#[cfg(test)]
mod tests;
