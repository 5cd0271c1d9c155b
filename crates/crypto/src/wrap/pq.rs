//! The post-quantum keys of age 1.3 and later, `age1pq1...` and `AGE-SECRET-KEY-PQ-1...`
//! (<https://c2sp.org/age>), which the `age` crate lacks. HPKE is that of its plugins.

#[cfg(test)]
mod tests;
mod x_wing;

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use age::secrecy::ExposeSecret as _;
use age::{DecryptError, EncryptError};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::primitives::{bech32_decode, bech32_encode, hpke_open, hpke_seal};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bech32::Hrp;
use hpke::rand_core::OsRng;
use hpke::{Deserializable as _, HpkeError, Kem as _, Serializable as _};
use zeroize::Zeroizing;

use crate::error::Error;
use x_wing::{EncappedKey, PrivateKey, PublicKey, XWing};

const RECIPIENT: Hrp = Hrp::parse_unchecked("age1pq");
const IDENTITY: Hrp = Hrp::parse_unchecked("AGE-SECRET-KEY-PQ-");

const TAG: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
/// The label of recipients that age combines with each other alone.
const LABEL: &str = "postquantum";

const BODY_BYTES: usize = FILE_KEY_BYTES + 16;

pub(super) struct Recipient(PublicKey);

impl FromStr for Recipient {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        decode(text, RECIPIENT, PublicKey::from_bytes).map(Recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32_encode(RECIPIENT, &self.0.to_bytes()))
    }
}

impl age::Recipient for Recipient {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let (encapped, body) =
            hpke_seal::<XWing, _>(&self.0, INFO, file_key.expose_secret(), &mut OsRng);
        let stanza = Stanza {
            tag: TAG.to_owned(),
            args: vec![BASE64_STANDARD_NO_PAD.encode(encapped.to_bytes())],
            body,
        };
        Ok((vec![stanza], HashSet::from([LABEL.to_owned()])))
    }
}

pub(super) struct Identity(PrivateKey);

impl FromStr for Identity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        decode(text, IDENTITY, PrivateKey::from_bytes).map(Identity)
    }
}

impl Identity {
    pub(super) fn generate() -> Result<Identity, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(Error::Randomness)?;
        Ok(Identity(PrivateKey(seed)))
    }

    pub(super) fn to_public(&self) -> Recipient {
        Recipient(XWing::sk_to_pk(&self.0))
    }

    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(bech32_encode(IDENTITY, &*self.0.0));
        text.make_ascii_uppercase();
        text
    }
}

impl age::Identity for Identity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != TAG {
            return None;
        }
        let Some(encapped) = encapped(stanza) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        match hpke_open::<XWing>(&encapped, &self.0, INFO, &stanza.body).map(Zeroizing::new) {
            Ok(bytes) => Some(FileKey::try_init_with_mut(|key| {
                let bytes = <&[u8; FILE_KEY_BYTES]>::try_from(bytes.as_slice());
                key.copy_from_slice(bytes.map_err(|_| DecryptError::InvalidHeader)?);
                Ok(())
            })),
            // It is for another: with a wrong key, X-Wing gives another secret, not an error.
            Err(HpkeError::OpenError) => None,
            Err(_) => Some(Err(DecryptError::InvalidHeader)),
        }
    }
}

/// Returns the argument of a stanza, if the stanza has the form that age writes.
fn encapped(stanza: &Stanza) -> Option<EncappedKey> {
    let ([argument], BODY_BYTES) = (&stanza.args[..], stanza.body.len()) else {
        return None;
    };
    let bytes = BASE64_STANDARD_NO_PAD.decode(argument).ok()?;
    EncappedKey::from_bytes(&bytes).ok()
}

fn decode<T>(
    text: &str,
    kind: Hrp,
    read: impl FnOnce(&[u8]) -> Result<T, HpkeError>,
) -> Result<T, ()> {
    bech32_decode(
        text,
        |_| (),
        |found| (found == kind).then_some(()).ok_or(()),
        |_, bytes| {
            // Allocated once: a buffer that grows leaves secrets behind.
            let mut key = Zeroizing::new(Vec::with_capacity(text.len()));
            key.extend(bytes);
            read(&key).map_err(|_| ())
        },
    )
}
