//! AES-256 by AWS-LC, with VAES and VPCLMULQDQ if the processor has them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};

use super::cipher::{Tag, block};
use crate::error::Error;
use crate::secret::Secret;

/// An expanded key. AWS-LC clears it when it is freed.
pub(crate) struct Gcm(LessSafeKey);

impl Gcm {
    pub(crate) fn new(key: &Secret) -> Result<Self, Error> {
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| Error::Backend)?;
        Ok(Gcm(LessSafeKey::new(key)))
    }

    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<Tag, Error> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
            .map_err(|_| Error::Backend)?;
        tag.as_ref().try_into().map(Tag).map_err(|_| Error::Backend)
    }

    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        text: &mut [u8],
        tag: &Tag,
    ) -> Result<(), Error> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(aad), &tag.0, text)
            .map(|_| ())
            .map_err(|_| Error::Unauthentic)
    }

    pub(crate) fn open_into(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
        plaintext: &mut [u8],
    ) -> Result<(), Error> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_separate_gather(nonce, Aad::from(aad), ciphertext, &tag.0, plaintext)
            .map_err(|_| Error::Unauthentic)
    }
}

/// An expanded key. AWS-LC clears it when it is freed.
pub(crate) struct Ctr(DecryptingKey);

impl Ctr {
    pub(crate) fn new(key: &Secret) -> Result<Self, Error> {
        let key = UnboundCipherKey::new(&AES_256, key.expose()).map_err(|_| Error::Backend)?;
        let key = DecryptingKey::ctr(key).map_err(|_| Error::Backend)?;
        Ok(Ctr(key))
    }

    pub(crate) fn apply(
        &self,
        nonce: [u8; 12],
        counter: u32,
        text: &mut [u8],
    ) -> Result<(), Error> {
        let context = DecryptionContext::Iv128(block(nonce, counter).into());
        let done = self.0.decrypt(text, context);
        done.map(|_| ()).map_err(|_| Error::Backend)
    }
}
