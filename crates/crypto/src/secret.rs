//! The container of secret bytes.

use std::fmt;
use std::sync::Arc;

use memmap2::MmapMut;
use zeroize::{Zeroize, Zeroizing};

use crate::error::Error;

/// 32 secret bytes, zeroized on drop.
///
/// The bytes live on the heap or in a page, so that moving the value leaves no copy behind.
pub(crate) struct Secret(Place);

enum Place {
    /// For a call.
    Heap(Box<[u8; 32]>),
    /// For as long as a model is open: the page, and the index in it.
    Page(Arc<Page>, usize),
}

/// Memory that stays out of core dumps (Linux) and, as far as the process may lock memory, out of
/// swap space. Zeroized on drop.
struct Page(MmapMut);

impl Page {
    /// The secrets that have room.
    fn places(&mut self) -> &mut [[u8; 32]] {
        self.0.as_chunks_mut().0
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Secret {
    /// Makes a secret that `fill` writes in place.
    pub(crate) fn try_new<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Secret(Place::Heap(Box::new([0; 32])));
        if let Place::Heap(bytes) = &mut secret.0 {
            fill(bytes)?;
        }
        Ok(secret)
    }

    /// Copies these bytes to a secret. The caller must zeroize the original.
    pub(crate) fn copy(bytes: &[u8; 32]) -> Self {
        let mut secret = Box::new([0; 32]);
        secret.copy_from_slice(bytes);
        Secret(Place::Heap(secret))
    }

    /// Moves secrets that will be held for long into a page of their own.
    pub(crate) fn keep(secrets: &[Secret]) -> Result<Vec<Secret>, Error> {
        let len_bytes = secrets.len() * 32;
        let page = MmapMut::map_anon(len_bytes.max(1)).map_err(|_| Error::Memory { len_bytes })?;
        // Both are advice: some systems lack it, and few processes may lock much.
        #[cfg(target_os = "linux")]
        let _ = page.advise(memmap2::Advice::DontDump);
        #[cfg(unix)]
        let _ = page.lock();
        let mut page = Page(page);
        for (place, secret) in page.places().iter_mut().zip(secrets) {
            place.copy_from_slice(secret.expose());
        }
        let page = Arc::new(page);
        let kept = (0..secrets.len()).map(|index| Secret(Place::Page(Arc::clone(&page), index)));
        Ok(kept.collect())
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
        let mut secret = Box::new([0; 32]);
        for (byte, [high, low]) in secret.iter_mut().zip(pairs) {
            *byte = value(*high) << 4 | value(*low);
        }
        Some(Secret(Place::Heap(secret)))
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
        match &self.0 {
            Place::Heap(secret) => secret,
            Place::Page(page, index) => &page.0.as_chunks().0[*index],
        }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // A page is zeroized with the last of its secrets.
        if let Place::Heap(secret) = &mut self.0 {
            secret.zeroize();
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Secret(_) = self;
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn secrets_that_are_kept_are_the_same() {
        for n in [0, 1, 46, 200] {
            let secrets: Vec<Secret> = (0..n).map(|i| Secret::copy(&[i as u8; 32])).collect();
            let kept = Secret::keep(&secrets).unwrap();
            assert_eq!(kept.len(), n);
            for (kept, secret) in kept.iter().zip(&secrets) {
                assert_eq!(kept.expose(), secret.expose());
            }
        }
    }
}
