//! The seed of an input key, and the numbers drawn from it.
//!
//! ```text
//! key L      HKDF-SHA256(ikm = seed, salt = none, info = L, length = 32)
//! stream L   AES-256(key L, u128be(0)) ‖ AES-256(key L, u128be(1)) ‖ ...
//! numbers    the stream as little-endian u32
//! ```
//!
//! `docs/INPUTKEY.md` says what the numbers are for.

mod ffx;

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use zeroize::Zeroizing;

pub use crate::derive::Draw;

use crate::derive;
use crate::error::Error;
use crate::secret::Secret;

/// Bytes of a stream to make at a time.
const PIECE: usize = 1024;

/// The 32 random bytes of an input key. Zeroized on drop.
#[derive(Debug)]
pub struct InputSeed(Secret);

impl InputSeed {
    pub fn generate() -> Result<InputSeed, Error> {
        Secret::random().map(InputSeed)
    }

    pub fn from_hex(digits: &str) -> Option<InputSeed> {
        Secret::from_hex(digits).map(InputSeed)
    }

    pub fn to_hex(&self) -> Zeroizing<String> {
        self.0.to_hex()
    }

    pub fn numbers(&self, draw: Draw) -> Result<Numbers, Error> {
        let key = derive::input_key(&self.0, draw)?;
        Ok(Numbers {
            stream: Ctr128BE::new(key.expose().into(), &[0; 16].into()),
            piece: Zeroizing::new([0; PIECE]),
            used: PIECE,
        })
    }

    /// Returns FFX's replacements for the pixels 0 to 255, numbers of three digits.
    pub fn ffx_table(&self) -> Result<Zeroizing<[u16; 256]>, Error> {
        ffx::ffx_table(derive::ffx_key(&self.0)?.expose())
    }
}

/// A stream of numbers.
pub struct Numbers {
    stream: Ctr128BE<Aes256>,
    piece: Zeroizing<[u8; PIECE]>,
    used: usize,
}

opaque_debug!(Numbers);

impl Numbers {
    /// Returns the next `N` bytes; `N` must divide 16.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used == PIECE {
            self.piece.fill(0);
            self.stream.apply_keystream(&mut *self.piece);
            self.used = 0;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.piece[self.used..][..N]);
        self.used += N;
        bytes
    }

    /// Draws a number below `n`, all equally likely: `floor(w * n / 2^32)` for the next number w of
    /// the stream with `w * n mod 2^32 >= 2^32 mod n` (Lemire, Fast Random Integer Generation in an
    /// Interval, 2019).
    pub fn below(&mut self, n: u32) -> u32 {
        let dropped_below = (1u64 << 32) % u64::from(n.max(1));
        loop {
            let product = u64::from(u32::from_le_bytes(self.take())) * u64::from(n);
            if product & u64::from(u32::MAX) >= dropped_below {
                return (product >> 32) as u32;
            }
        }
    }

    /// Shuffles `items` (Fisher and Yates): for i from the last down to 1, draws r from 0 to i and
    /// exchanges items i and r.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let r = self.below(i as u32 + 1) as usize;
            items.swap(i, r);
        }
    }
}
