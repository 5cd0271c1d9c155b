//! A secret file that is replaced before what it notes is done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::draft::write_whole;
use crate::permitted::Readers;

/// A file that was replaced, for its owner alone. Dropped, it has its old bytes again, unless it is
/// kept: a caller that fails changes nothing. Bytes are zeroized on drop.
#[derive(Debug)]
pub struct Replaced {
    /// The file itself, where links lead to it.
    path: PathBuf,
    old: Zeroizing<Vec<u8>>,
    new: Zeroizing<Vec<u8>>,
    is_kept: bool,
}

impl Replaced {
    /// Replaces the file at `path` by `bytes`, whole or not at all. A link to it stays a link.
    ///
    /// # Errors
    /// As [`write_whole`]; the system's where the file cannot be read.
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

    /// The new bytes stay.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // Another process may have written the file meanwhile.
        let is_ours = || fs::read(&self.path).is_ok_and(|bytes| bytes == *self.new);
        if !self.is_kept && is_ours() {
            let _ = write_whole(&self.path, &self.old, true, Readers::Owner);
        }
    }
}
