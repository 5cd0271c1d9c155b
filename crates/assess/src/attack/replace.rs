//! Replaces elements in a model's files.

use std::collections::BTreeMap;

use onnxseal_engine::Files;

use crate::hidden::HiddenTensor;

/// A model's files, some of which change.
pub(crate) struct Changes<'f> {
    files: &'f Files,
    /// The bytes of the files that change, by number.
    changed: BTreeMap<usize, Vec<u8>>,
}

impl<'f> Changes<'f> {
    pub(crate) fn to(files: &'f Files) -> Changes<'f> {
        let changed = BTreeMap::new();
        Changes { files, changed }
    }

    /// Puts the encrypted ones of a tensor's `elements` into their places.
    pub(crate) fn put(&mut self, tensor: &HiddenTensor, elements: &[u8]) {
        let file = self.changed.entry(tensor.file);
        let file = file.or_insert_with(|| self.files.bytes(tensor.file).to_vec());
        tensor.scatter(elements, file);
    }

    /// Returns the files with the changes.
    pub(crate) fn made(self) -> Files {
        let mut files = self.files.clone();
        for (file, bytes) in self.changed {
            let place = match file.checked_sub(1) {
                None => Some(&mut files.model),
                Some(index) => files.external.get_mut(index).map(|(_, bytes)| bytes),
            };
            if let Some(place) = place {
                *place = bytes.into();
            }
        }
        files
    }
}
