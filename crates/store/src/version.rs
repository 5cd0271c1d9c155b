//! Versions of objects.

/// The version of an object, as far as its store tells.
#[derive(Clone, Debug)]
pub struct Version(#[cfg(feature = "object-store")] pub(crate) object_store::UpdateVersion);

#[cfg(feature = "object-store")]
impl Version {
    /// Returns the stamp of this version, or `None` if the store gives no tag.
    pub(crate) fn stamp(self) -> Option<crate::Stamp> {
        let object_store::UpdateVersion { e_tag, version } = self.0;
        let e_tag = e_tag?;
        Some(crate::Stamp::Object { e_tag, version })
    }
}
