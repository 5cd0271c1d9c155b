//! The container of secret bytes.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::error::Error;

/// 32 secret bytes, zeroized on drop.
///
/// The bytes live on the heap, so that moving the value leaves no copy behind.
pub(crate) struct Secret(Box<[u8; 32]>);

impl Secret {
    /// Makes a secret that `fill` writes in place.
    pub(crate) fn try_new<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Secret(Box::new([0; 32]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// Copies these bytes to a secret. The caller must zeroize the original.
    pub(crate) fn copy(bytes: &[u8; 32]) -> Self {
        let mut secret = Secret(Box::new([0; 32]));
        secret.0.copy_from_slice(bytes);
        secret
    }

    /// Makes a secret from the system's randomness.
    pub(crate) fn random() -> Result<Self, Error> {
        Secret::try_new(|bytes| getrandom::fill(bytes)).map_err(|_| Error::Backend)
    }

    /// Reads 64 lowercase hexadecimal digits.
    pub(crate) fn from_hex(digits: &str) -> Option<Self> {
        let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
            return None;
        };
        if pairs.len() != 32 || !digits.as_bytes().iter().all(is_digit) {
            return None;
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => digit - b'0',
            _ => digit - b'a' + 10,
        };
        let mut secret = Secret(Box::new([0; 32]));
        for (byte, [high, low]) in secret.0.iter_mut().zip(pairs) {
            *byte = value(*high) << 4 | value(*low);
        }
        Some(secret)
    }

    /// Returns the secret as 64 lowercase hexadecimal digits.
    pub(crate) fn to_hex(&self) -> Zeroizing<String> {
        // Allocated once: a string that grows leaves secrets behind.
        let mut digits = Zeroizing::new(String::with_capacity(64));
        for byte in self.expose() {
            for digit in [byte >> 4, byte & 15] {
                digits.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        digits
    }

    /// Returns the bytes; do not copy them.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Secret(_) = self;
        f.write_str("Secret(..)")
    }
}
