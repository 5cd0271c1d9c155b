//! Models in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

use crate::output::Permitted;

/// A model whose files are in memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InMemory {
    /// The name of the model in messages, and of its external files.
    pub name: PathBuf,
    pub model: Bytes,
    /// The external data files, by their paths relative to the model's folder, separated by `/`.
    pub external: BTreeMap<String, Bytes>,
    /// Who may do what with files that are made of it.
    pub permitted: Permitted,
}

opaque!(InMemory);

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
