//! Models in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use crate::permitted::Permitted;

/// Shared bytes that never change.
#[derive(Clone)]
pub struct Bytes(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Bytes {
    /// Shares `bytes`.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Bytes {
        Bytes(Arc::new(bytes))
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub(crate) fn copy_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = self.get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes::new(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Bytes) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Bytes) -> std::cmp::Ordering {
        (**self).cmp(other)
    }
}

impl std::hash::Hash for Bytes {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}

/// A model whose files are in memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InMemory {
    /// The name of the model in messages, and of its external files.
    pub name: PathBuf,
    /// The model file.
    pub model: Bytes,
    /// The external data files, by their paths relative to the model's folder, separated by `/`.
    pub external: BTreeMap<String, Bytes>,
    /// Who may do what with files that are made of it.
    pub permitted: Permitted,
}

impl InMemory {
    /// Makes a model in one file, called `name` in messages. Only its owner may read what is made of
    /// it.
    pub fn new(name: impl Into<PathBuf>, model: impl Into<Bytes>) -> InMemory {
        InMemory {
            name: name.into(),
            model: model.into(),
            external: BTreeMap::new(),
            permitted: Permitted::OWNER,
        }
    }
}
