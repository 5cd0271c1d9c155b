//! AES-256 by RustCrypto: portable, for every target Rust compiles to.

use aes::Aes256;
use aes::cipher::{InnerIvInit as _, KeyInit as _, StreamCipher as _, StreamCipherCoreWrapper};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut as _;
use aes_gcm::aead::inout::InOutBuf;
use ctr::CtrCore;
use ctr::flavors::Ctr32BE;

use super::cipher::{Tag, block};
use crate::error::Error;
use crate::secret::Secret;

/// An expanded key. Zeroized on drop.
pub(crate) struct Gcm(Aes256Gcm);

impl Gcm {
    pub(crate) fn new(key: &Secret) -> Result<Self, Error> {
        Ok(Gcm(Aes256Gcm::new(key.expose().into())))
    }

    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<Tag, Error> {
        let sealed = (self.0).encrypt_inout_detached(&nonce.into(), aad, text.into());
        sealed
            .map(|tag| Tag(tag.into()))
            .map_err(|_| Error::Backend)
    }

    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        text: &mut [u8],
        tag: &Tag,
    ) -> Result<(), Error> {
        let tag = &tag.0.into();
        let opened = (self.0).decrypt_inout_detached(&nonce.into(), aad, text.into(), tag);
        opened.map_err(|_| Error::Unauthentic)
    }

    pub(crate) fn open_into(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
        plaintext: &mut [u8],
    ) -> Result<(), Error> {
        let both = InOutBuf::new(ciphertext, plaintext).map_err(|_| Error::Backend)?;
        let tag = &tag.0.into();
        let opened = (self.0).decrypt_inout_detached(&nonce.into(), aad, both, tag);
        opened.map_err(|_| Error::Unauthentic)
    }
}

/// An expanded key. Zeroized on drop.
pub(crate) struct Ctr(Aes256);

impl Ctr {
    pub(crate) fn new(key: &Secret) -> Result<Self, Error> {
        Ok(Ctr(Aes256::new(key.expose().into())))
    }

    pub(crate) fn apply(
        &self,
        nonce: [u8; 12],
        counter: u32,
        text: &mut [u8],
    ) -> Result<(), Error> {
        let core = CtrCore::<_, Ctr32BE>::inner_iv_init(&self.0, &block(nonce, counter).into());
        StreamCipherCoreWrapper::from_core(core)
            .try_apply_keystream(text)
            .map_err(|_| Error::Backend)
    }
}
