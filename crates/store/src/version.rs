//! Which of the objects that had a name one is.

/// Which of the objects that had a name one is, as far as its store says.
#[derive(Clone, Debug)]
pub struct Version(#[cfg(feature = "object-store")] pub(crate) object_store::UpdateVersion);

#[cfg(feature = "object-store")]
impl Version {
    /// What tells it from another object; `None` where the store does not say.
    pub(crate) fn stamp(self) -> Option<crate::Stamp> {
        let object_store::UpdateVersion { e_tag, version } = self.0;
        let e_tag = e_tag?;
        Some(crate::Stamp::Object { e_tag, version })
    }
}
