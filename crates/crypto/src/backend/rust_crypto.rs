//! AES-256 by RustCrypto: portable, for every target Rust compiles to.

use aes::Aes256;
use aes::cipher::{InnerIvInit as _, KeyInit as _, StreamCipher as _, StreamCipherCoreWrapper};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut as _;
use aes_gcm::aead::inout::InOutBuf;
use ctr::CtrCore;
use ctr::flavors::Ctr32BE;

use super::cipher::{Aead, Ctr, Tag, block};
use crate::error::Error;
use crate::secret::Secret;

/// An expanded key. Zeroized on drop.
pub(crate) struct RustCrypto(Aes256Gcm);

impl Aead for RustCrypto {
    fn new(key: &Secret) -> Result<Self, Error> {
        Ok(RustCrypto(Aes256Gcm::new(key.expose().into())))
    }

    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<Tag, Error> {
        let sealed = (self.0).encrypt_inout_detached(&nonce.into(), aad, text.into());
        sealed
            .map(|tag| Tag(tag.into()))
            .map_err(|_| Error::Backend)
    }

    fn open(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &Tag) -> Result<(), Error> {
        let tag = &tag.0.into();
        let opened = (self.0).decrypt_inout_detached(&nonce.into(), aad, text.into(), tag);
        opened.map_err(|_| Error::Unauthentic)
    }

    fn open_into(
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
pub(crate) struct RustCryptoCtr(Aes256);

impl Ctr for RustCryptoCtr {
    fn new(key: &Secret) -> Result<Self, Error> {
        Ok(RustCryptoCtr(Aes256::new(key.expose().into())))
    }

    fn apply(&self, nonce: [u8; 12], counter: u32, text: &mut [u8]) -> Result<(), Error> {
        let core = CtrCore::<_, Ctr32BE>::inner_iv_init(&self.0, &block(nonce, counter).into());
        StreamCipherCoreWrapper::from_core(core)
            .try_apply_keystream(text)
            .map_err(|_| Error::Backend)
    }
}
