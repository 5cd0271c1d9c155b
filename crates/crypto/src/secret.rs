//! The container of secret bytes.

use std::sync::Arc;

use memmap2::MmapMut;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::Error;

/// 32 secret bytes, zeroized on drop.
///
/// The bytes live on the heap or in a page, so that moving the value leaves no copy behind.
pub(crate) struct Secret(Place);

opaque_debug!(Secret);

enum Place {
    /// For a call.
    Heap(Box<Zeroizing<[u8; 32]>>),
    /// For as long as a model is open: the page, and the index in it. A page is zeroized with the
    /// last of its secrets.
    Page(Arc<Page>, usize),
}

/// Memory that stays out of core dumps (Linux) and, as far as the process may lock memory, out of
/// swap space.
struct Page(MmapMut);

impl Drop for Page {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Secret {
    /// Makes a secret that `fill` writes in place.
    pub(crate) fn try_new<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Box::new(Zeroizing::new([0; 32]));
        fill(&mut bytes)?;
        Ok(Secret(Place::Heap(bytes)))
    }

    /// Copies these bytes to a secret. The caller must zeroize the original.
    pub(crate) fn copy(bytes: &[u8; 32]) -> Self {
        let mut secret = Box::new(Zeroizing::new([0; 32]));
        secret.copy_from_slice(bytes);
        Secret(Place::Heap(secret))
    }

    /// Moves secrets that will be held for long into a page of their own.
    pub(crate) fn keep(secrets: &[Secret]) -> Result<Vec<Secret>, Error> {
        let len_bytes = secrets.len() * 32;
        let page = MmapMut::map_anon(len_bytes.max(1)).map_err(|_| Error::Memory(len_bytes))?;
        // Both are advice: some systems lack it, and few processes may lock much.
        #[cfg(target_os = "linux")]
        let _ = page.advise(memmap2::Advice::DontDump);
        #[cfg(unix)]
        let _ = page.lock();
        let mut page = Page(page);
        for (place, secret) in page.0.as_chunks_mut().0.iter_mut().zip(secrets) {
            *place = *secret.expose();
        }
        let page = Arc::new(page);
        let kept = (0..secrets.len()).map(|index| Secret(Place::Page(Arc::clone(&page), index)));
        Ok(kept.collect())
    }

    /// Makes a secret from the operating system's randomness.
    pub(crate) fn random() -> Result<Self, Error> {
        Secret::try_new(|bytes| getrandom::fill(bytes)).map_err(Error::Randomness)
    }

    /// Reads 64 lowercase hexadecimal digits.
    pub(crate) fn from_hex(digits: &str) -> Option<Self> {
        let fill = |bytes: &mut [u8; 32]| match base16ct::lower::decode(digits, bytes) {
            Ok(all) if all.len() == 32 => Ok(()),
            _ => Err(()),
        };
        Secret::try_new(fill).ok()
    }

    /// Returns the secret as 64 lowercase hexadecimal digits.
    pub(crate) fn to_hex(&self) -> Zeroizing<String> {
        // Allocated once: a string that grows leaves secrets behind.
        Zeroizing::new(base16ct::lower::encode_string(self.expose()))
    }

    /// Returns the bytes; do not copy them.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        match &self.0 {
            Place::Heap(secret) => secret,
            Place::Page(page, index) => &page.0.as_chunks().0[*index],
        }
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
