//! Which of the objects that had a name one is.

/// Which of the objects that had a name one is, as far as its store says.
#[derive(Clone, Debug)]
pub struct Version(#[cfg(feature = "object-store")] pub(crate) object_store::UpdateVersion);
