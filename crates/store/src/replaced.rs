//! A secret file that is replaced before the work it records is done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::draft::write_whole;
use crate::permitted::Readers;

/// A replaced file, readable only by its owner. Dropping this restores the old bytes unless they
/// were kept, so that a failing caller changes nothing. Bytes are zeroized on drop.
#[derive(Debug)]
pub struct Replaced {
    /// The file itself, with links resolved.
    path: PathBuf,
    old: Zeroizing<Vec<u8>>,
    new: Zeroizing<Vec<u8>>,
    is_kept: bool,
}

impl Replaced {
    /// Replaces the file at `path` by `bytes`, whole or not at all. A link to the file stays.
    pub fn write(path: &Path, bytes: &[u8]) -> io::Result<Replaced> {
        let path = path.canonicalize()?;
        let old = fs::read(&path)?.into();
        write_whole(&path, bytes, true, Readers::Owner)?;
        Ok(Replaced {
            path,
            old,
            new: bytes.to_vec().into(),
            is_kept: false,
        })
    }

    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // Another process may have written to the file since.
        let is_ours = || fs::read(&self.path).is_ok_and(|bytes| bytes == *self.new);
        if !self.is_kept && is_ours() {
            let _ = write_whole(&self.path, &self.old, true, Readers::Owner);
        }
    }
}
