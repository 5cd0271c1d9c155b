//! The one container of secret bytes.

use std::fmt;

use zeroize::Zeroize;

/// 32 secret bytes, zeroized on drop.
///
/// They live on the heap, so that moving the value leaves no copy behind.
pub(crate) struct Secret(Box<[u8; 32]>);

impl Secret {
    /// Makes a secret that `fill` writes in place.
    pub(crate) fn try_new<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Secret(Box::new([0; 32]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// Makes a secret of these bytes; zeroizing those is up to the caller.
    pub(crate) fn copy(bytes: &[u8; 32]) -> Self {
        let mut secret = Secret(Box::new([0; 32]));
        secret.0.copy_from_slice(bytes);
        secret
    }

    /// The bytes; do not copy them out.
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
