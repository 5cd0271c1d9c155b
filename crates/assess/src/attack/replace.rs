//! Replaces files of a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use onnxseal_engine::Files;

/// Returns `files` with the bytes of some replaced, by number.
pub(crate) fn replaced(files: &Files, changed: BTreeMap<usize, Vec<u8>>) -> Files {
    let mut files = files.clone();
    for (file, bytes) in changed {
        let bytes: Arc<[u8]> = bytes.into();
        match file.checked_sub(1) {
            None => files.model = bytes,
            Some(index) => {
                if let Some((_, place)) = files.external.get_mut(index) {
                    *place = bytes;
                }
            }
        }
    }
    files
}
