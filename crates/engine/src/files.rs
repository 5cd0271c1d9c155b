//! A model in memory.

use std::sync::Arc;

/// The files of a model, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub model: Arc<[u8]>,
    /// The external data files, with the paths by which the model names them.
    pub external: Vec<(String, Arc<[u8]>)>,
}

impl Files {
    pub fn new(model: &[u8], external: Vec<(String, Vec<u8>)>) -> Files {
        let external = external.into_iter();
        Files {
            model: model.into(),
            external: external.map(|(path, bytes)| (path, bytes.into())).collect(),
        }
    }

    /// Returns the bytes of a file: 0 is the model file, `i + 1` external file `i`.
    pub fn bytes(&self, file: usize) -> &[u8] {
        match file.checked_sub(1) {
            None => &self.model,
            Some(index) => self.external.get(index).map_or(&[], |(_, bytes)| bytes),
        }
    }

    /// Returns the length of all files in bytes.
    pub fn total_bytes(&self) -> u64 {
        let external = self.external.iter().map(|(_, bytes)| bytes.len() as u64);
        self.model.len() as u64 + external.sum::<u64>()
    }
}
