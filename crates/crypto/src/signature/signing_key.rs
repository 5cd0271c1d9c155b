//! Private keys that sign.

use std::fmt;
use std::io::Read;

use rsa::pkcs1v15;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use ssh_encoding::{Decode as _, Encode as _, Reader as _, pem};
use ssh_key::private::{EcdsaKeypair, KeypairData, PrivateKey, RsaKeypair};
use ssh_key::public::KeyData;
use ssh_key::rand_core::OsRng;
use ssh_key::sha2::Sha512;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, Signature, SshSig};
use zeroize::Zeroizing;

use super::{ARMOR_COLUMNS, NAMESPACE, armor, check_rsa_bits, encode, fingerprint, holds};
use crate::error::Error;
use crate::limited::read_limited;
use crate::wrap::{Passphrase, check_rounds};

/// The longest private key file to read, in bytes.
pub const MAX_SIGNING_KEY_BYTES: usize = 64 << 10;

/// A private key that signs, zeroized on drop.
pub struct SigningKey {
    public: KeyData,
    secret: SecretKey,
}

enum SecretKey {
    Rsa(Box<pkcs1v15::SigningKey<Sha512>>),
    Other(Box<PrivateKey>),
}

impl SigningKey {
    /// Reads an OpenSSH private key, as `ssh-keygen` writes it: ed25519, ecdsa, or rsa of 2048 to
    /// 4096 bits. `passphrase` is called only if it is encrypted. `name` is for error messages.
    ///
    /// # Errors
    /// [`Error::MalformedSigningKey`] for anything else, [`Error::WrongPassphrase`], and the errors
    /// of `passphrase`.
    pub fn read(
        file: impl Read,
        name: &str,
        passphrase: impl FnOnce() -> Result<Passphrase, Error>,
    ) -> Result<SigningKey, Error> {
        let unusable = |reason| Error::MalformedSigningKey {
            name: name.to_owned(),
            reason,
        };
        let text = read_limited(file, name, MAX_SIGNING_KEY_BYTES, "signing key file length")?;
        if let Some(reason) = other_than_private(&text) {
            return Err(unusable(reason));
        }
        let key = match PrivateKey::from_openssh(&*text) {
            Ok(key) if key.is_encrypted() => {
                // Check before asking for a passphrase.
                check_signs(key.public_key().key_data()).map_err(unusable)?;
                check_rounds(&key)?;
                let passphrase = passphrase()?;
                decrypt(&key, &text, passphrase.expose()).map_err(|fault| match fault {
                    ssh_key::Error::Crypto => Error::WrongPassphrase {
                        name: name.to_owned(),
                    },
                    _ => unusable("the private key is malformed"),
                })?
            }
            Ok(key) => key,
            Err(_) => {
                short_ecdsa(&text, None).ok_or_else(|| unusable("the private key is malformed"))?
            }
        };
        let public = key.public_key().key_data().clone();
        check_signs(&public).map_err(unusable)?;
        let secret = match key.key_data() {
            KeypairData::Rsa(pair) => rsa_key(pair)
                .map(|key| SecretKey::Rsa(Box::new(key)))
                .ok_or_else(|| unusable("the parts of the RSA key do not belong together"))?,
            _ => SecretKey::Other(Box::new(key)),
        };
        Ok(SigningKey { public, secret })
    }

    /// Returns the key's type in OpenSSH's notation, such as `ssh-ed25519`.
    pub fn key_type(&self) -> String {
        self.public.algorithm().to_string()
    }

    /// Returns the public key's fingerprint, `SHA256:...`.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.public)
    }

    /// Signs `message`: an armored SSHSIG in our namespace, with SHA-512.
    ///
    /// # Errors
    /// [`Error::Backend`] if the library fails, or the private key does not match the file's public
    /// key.
    pub fn sign(&self, message: &[u8]) -> Result<String, Error> {
        let signed = match &self.secret {
            SecretKey::Rsa(key) => sign_rsa(key, &self.public, message),
            SecretKey::Other(key) => key.sign(NAMESPACE, HashAlg::Sha512, message),
        };
        let signed = signed.map_err(|_| Error::Backend)?;
        holds(&signed, message).map_err(|_| Error::Backend)?;
        Ok(armor(&encode(&signed).map_err(|_| Error::Backend)?))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SigningKey {
            public: _,
            secret: _,
        } = self;
        f.write_str("SigningKey(..)")
    }
}

/// Checks that a private key of this kind can sign here.
fn check_signs(key: &KeyData) -> Result<(), &'static str> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => Ok(()),
        KeyData::Rsa(_) => check_rsa_bits(key),
        KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => Err(
            "its secret is in a security key; sign with `ssh-keygen -Y sign -n onnxseal` instead",
        ),
        KeyData::Dsa(_) => Err("DSA keys are too weak"),
        _ => Err("keys of its type are not supported"),
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

fn decrypt(key: &PrivateKey, text: &[u8], passphrase: &[u8]) -> Result<PrivateKey, ssh_key::Error> {
    match key.decrypt(passphrase) {
        Err(fault @ ssh_key::Error::Encoding(_)) => {
            short_ecdsa(text, Some((key, passphrase))).ok_or(fault)
        }
        other => other,
    }
}

/// Reads an ECDSA key whose secret number is shorter than the curve's numbers, decrypted by
/// `encrypted` if given.
///
/// `ssh-keygen` must leave out leading zero bytes: every fourth key on P-521 has some. `ssh-key`
/// accepts only numbers of full length.
fn short_ecdsa(text: &[u8], encrypted: Option<(&PrivateKey, &[u8])>) -> Option<PrivateKey> {
    let mut reader = pem::Decoder::new_wrapped(text, ARMOR_COLUMNS).ok()?;
    reader.drain(b"openssh-key-v1\0".len()).ok()?;
    // Cipher, KDF, its options; the number of keys; the public key.
    for _ in 0..3 {
        reader.drain_prefixed().ok()?;
    }
    u32::decode(&mut reader).ok()?;
    reader.drain_prefixed().ok()?;
    let mut section = Zeroizing::new(Vec::<u8>::decode(&mut reader).ok()?);
    if let Some((key, passphrase)) = encrypted {
        let cipher = key.cipher();
        let mut tag = [0; 16];
        let tag = if cipher.has_tag() {
            reader.read_exact(&mut tag).ok().map(|()| tag)
        } else {
            None
        };
        let (key, iv) = key.kdf().derive_key_and_iv(cipher, passphrase).ok()?;
        cipher.decrypt(&key, &iv, &mut section, tag).ok()?;
    }
    widen_ecdsa(&section)
}

/// Reads the secret section of an ECDSA key file, and pads its secret number with zeros.
fn widen_ecdsa(mut section: &[u8]) -> Option<PrivateKey> {
    let reader = &mut section;
    if u32::decode(reader).ok()? != u32::decode(reader).ok()? {
        return None;
    }
    let Algorithm::Ecdsa { curve } = Algorithm::decode(reader).ok()? else {
        return None;
    };
    let named = EcdsaCurve::decode(reader).ok()?;
    let point = Vec::<u8>::decode(reader).ok()?;
    let number = Zeroizing::new(Vec::<u8>::decode(reader).ok()?);
    let len = match curve {
        EcdsaCurve::NistP256 => 32,
        EcdsaCurve::NistP384 => 48,
        EcdsaCurve::NistP521 => 66,
    };
    let mut full = Zeroizing::new(vec![0; len]);
    let at = len.checked_sub(number.len())?;
    full.get_mut(at..)?.copy_from_slice(&number);

    let mut pair = Zeroizing::new(Vec::with_capacity(512));
    named.encode(&mut *pair).ok()?;
    point.encode(&mut *pair).ok()?;
    full.encode(&mut *pair).ok()?;
    let pair = EcdsaKeypair::decode(&mut pair.as_slice()).ok()?;
    if pair.curve() == curve {
        PrivateKey::new(KeypairData::Ecdsa(pair), "").ok()
    } else {
        None
    }
}

/// Converts an RSA key. `ssh-key` 0.6 can too, but uses the first prime twice.
fn rsa_key(pair: &RsaKeypair) -> Option<pkcs1v15::SigningKey<Sha512>> {
    let number = |number: &ssh_key::Mpint| rsa::BigUint::try_from(number).ok();
    let (public, private) = (&pair.public, &pair.private);
    rsa::RsaPrivateKey::from_components(
        number(&public.n)?,
        number(&public.e)?,
        number(&private.d)?,
        vec![number(&private.p)?, number(&private.q)?],
    )
    .ok()
    .map(pkcs1v15::SigningKey::new)
}

/// Signs with blinding, which [`PrivateKey::sign`] lacks. The resulting bytes are equal.
fn sign_rsa(
    key: &pkcs1v15::SigningKey<Sha512>,
    public: &KeyData,
    message: &[u8],
) -> Result<SshSig, ssh_key::Error> {
    let hash_alg = HashAlg::Sha512;
    let data = SshSig::signed_data(NAMESPACE, hash_alg, message)?;
    let algorithm = Algorithm::Rsa {
        hash: Some(hash_alg),
    };
    let signature = Signature::new(
        algorithm,
        key.try_sign_with_rng(&mut OsRng, &data)?.to_vec(),
    )?;
    SshSig::new(public.clone(), NAMESPACE, hash_alg, signature)
}
