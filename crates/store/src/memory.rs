//! Models in memory.

use std::collections::BTreeMap;
use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Result, io};
use crate::input::{Backing, Input, copy_at};
use crate::location::folder_of;
use crate::permitted::Permitted;

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

impl From<InMemory> for Input {
    fn from(model: InMemory) -> Input {
        Input::new(
            model.name.clone(),
            model.model.len() as u64,
            Arc::new(model),
        )
    }
}

impl Backing for InMemory {
    fn read_exact_at(&self, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()> {
        copy_at(&self.model, buffer, offset).map_err(io("read", path))
    }

    fn open_beside(&self, path: &Path, name: &str) -> Result<Input> {
        let path = folder_of(path).join(name);
        let Some(bytes) = self.external.get(name) else {
            let text = "the model is in memory and has no folder: give this file's bytes with it, or the path of the model";
            return Err(io("open", &path)(IoError::new(ErrorKind::NotFound, text)));
        };
        let mut beside = InMemory::new(path, bytes.clone());
        beside.permitted = self.permitted;
        Ok(beside.into())
    }

    fn permitted(&self) -> Permitted {
        self.permitted
    }
}
