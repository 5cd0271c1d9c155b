//! AES-256-GCM from RustCrypto's primitives: portable, for every target Rust compiles to.

use aes::Aes256;
use aes::cipher::{
    BlockCipherEncrypt as _, InnerIvInit as _, KeyInit as _, StreamCipher as _,
    StreamCipherCoreWrapper,
};
use ctr::CtrCore;
use ctr::flavors::Ctr32BE;
use ghash::GHash;
use ghash::universal_hash::UniversalHash as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::cipher::{Aead, Ctr, Tag, block};
use crate::error::Error;
use crate::secret::Secret;

type Keystream<'k> = StreamCipherCoreWrapper<CtrCore<&'k Aes256, Ctr32BE>>;

fn keystream(cipher: &Aes256, nonce: [u8; 12], counter: u32) -> Keystream<'_> {
    let core = CtrCore::inner_iv_init(cipher, &block(nonce, counter).into());
    StreamCipherCoreWrapper::from_core(core)
}

/// An expanded key with the GHASH key derived from it. Both are zeroized on drop.
pub(crate) struct RustCrypto {
    cipher: Aes256,
    ghash: GHash,
}

impl RustCrypto {
    /// `J0 = nonce ‖ u32be(1)`, `mask = E(key, J0)`; the keystream goes on at `J0 + 1`.
    fn keystream(&self, nonce: [u8; 12]) -> Result<(Keystream<'_>, [u8; 16]), Error> {
        let mut keystream = keystream(&self.cipher, nonce, 1);
        let mut mask = [0; 16];
        keystream
            .try_apply_keystream(&mut mask)
            .map_err(|_| Error::Backend)?;
        Ok((keystream, mask))
    }

    /// `tag = mask ⊕ GHASH(E(key, 0), pad(aad) ‖ pad(ciphertext) ‖ u64be(bits of aad) ‖
    /// u64be(bits of ciphertext))`
    fn tag(&self, mask: [u8; 16], aad: &[u8], ciphertext: &[u8]) -> Tag {
        let mut lengths = [0; 16];
        let (aad_bits, ciphertext_bits) = lengths.split_at_mut(8);
        aad_bits.copy_from_slice(&(aad.len() as u64 * 8).to_be_bytes());
        ciphertext_bits.copy_from_slice(&(ciphertext.len() as u64 * 8).to_be_bytes());

        let mut ghash = self.ghash.clone();
        ghash.update_padded(aad);
        ghash.update_padded(ciphertext);
        ghash.update(&[lengths.into()]);
        let mut tag: [u8; 16] = ghash.finalize().into();
        tag.iter_mut().zip(mask).for_each(|(t, m)| *t ^= m);
        Tag(tag)
    }

    /// Returns the keystream for `ciphertext`, once its tag is verified.
    fn verified_keystream(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
    ) -> Result<Keystream<'_>, Error> {
        let (keystream, mask) = self.keystream(nonce)?;
        let expected = self.tag(mask, aad, ciphertext);
        if bool::from(expected.0.ct_eq(&tag.0)) {
            Ok(keystream)
        } else {
            Err(Error::Unauthentic)
        }
    }
}

impl Aead for RustCrypto {
    fn new(key: &Secret) -> Result<Self, Error> {
        let cipher = Aes256::new(key.expose().into());
        let mut hash_key = ghash::Key::default();
        cipher.encrypt_block(&mut hash_key);
        let ghash = GHash::new(&hash_key);
        hash_key.zeroize();
        Ok(RustCrypto { cipher, ghash })
    }

    fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Result<Tag, Error> {
        let (mut keystream, mask) = self.keystream(nonce)?;
        keystream
            .try_apply_keystream(text)
            .map_err(|_| Error::Backend)?;
        Ok(self.tag(mask, aad, text))
    }

    fn open(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &Tag) -> Result<(), Error> {
        let mut keystream = self.verified_keystream(nonce, aad, text, tag)?;
        keystream
            .try_apply_keystream(text)
            .map_err(|_| Error::Backend)
    }

    fn open_into(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &Tag,
        plaintext: &mut [u8],
    ) -> Result<(), Error> {
        let mut keystream = self.verified_keystream(nonce, aad, ciphertext, tag)?;
        keystream
            .try_apply_keystream_b2b(ciphertext, plaintext)
            .map_err(|_| Error::Backend)
    }
}

/// An expanded key. Zeroized on drop.
pub(crate) struct RustCryptoCtr(Aes256);

impl Ctr for RustCryptoCtr {
    fn new(key: &Secret) -> Result<Self, Error> {
        Ok(RustCryptoCtr(Aes256::new(key.expose().into())))
    }

    fn apply(&self, nonce: [u8; 12], counter: u32, text: &mut [u8]) -> Result<(), Error> {
        keystream(&self.0, nonce, counter)
            .try_apply_keystream(text)
            .map_err(|_| Error::Backend)
    }
}
