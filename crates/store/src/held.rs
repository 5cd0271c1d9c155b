//! Input files: most stay open, and in a model with very many files, the rest are opened for each
//! read.
//!
//! A process may have few files open at once (`ulimit -n`), and some exporters write one external
//! data file per tensor. A file that was closed must be unchanged when it is opened again.

use std::fs::{File, Metadata};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::beside;
use crate::error::{Error, Result, io as io_error};
use crate::input::{Backing, Input, OpenFile, file_of, read_exact_at};
use crate::limit;
use crate::regular::check_regular;
use crate::stamp::Stamp;

/// A file that is open, or reopened for each read.
#[derive(Debug)]
pub(crate) struct Held {
    open: Option<File>,
    first: Identity,
    n_beside: AtomicUsize,
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    len: u64,
    stamp: Option<Stamp>,
    file: (u64, u64),
}

impl Drop for Held {
    fn drop(&mut self) {
        // Programs that close all descriptors close this one too. Its number may then be another
        // file's, which is not ours to close.
        if let Some(file) = self.open.take()
            && !self.first.is_of(&file)
        {
            std::mem::forget(file);
        }
    }
}

impl Input {
    /// Takes the file that was opened from `path`.
    pub fn of(path: &Path, file: File) -> Result<Input> {
        Ok(Held::new(path, file)?.into_input(path))
    }
}

impl Held {
    fn new(path: &Path, file: File) -> Result<Held> {
        let metadata = file.metadata().map_err(io_error("read", path))?;
        check_regular(&metadata).map_err(io_error("read", path))?;
        Ok(Held {
            open: Some(file),
            first: Identity::of(&metadata),
            n_beside: AtomicUsize::new(0),
        })
    }

    fn into_input(self, path: &Path) -> Input {
        Input::new(path.to_owned(), self.first.len, Arc::new(self))
    }

    /// Returns the file, which lies at the canonical `path` if it is closed.
    fn open(&self, path: &Path) -> Result<OpenFile<'_>> {
        if let Some(file) = &self.open {
            return Ok(OpenFile::Held(file));
        }
        let file = beside::open_canonical(path).map_err(io_error("open", path))?;
        self.check(&file, path)?;
        Ok(OpenFile::Again(file))
    }

    fn check(&self, file: &File, path: &Path) -> Result<()> {
        let metadata = file.metadata().map_err(io_error("read", path))?;
        match Identity::of(&metadata) == self.first {
            true => Ok(()),
            false => Err(Error::InputChanged(path.to_owned())),
        }
    }
}

impl Backing for Held {
    fn read_exact_at(&self, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()> {
        read_exact_at(&*self.open(path)?, buffer, offset).map_err(io_error("read", path))
    }

    fn open_beside(&self, path: &Path, name: &str) -> Result<Input> {
        let (path, file) = beside::open(path, name)?;
        let mut held = Held::new(&path, file)?;
        if self.n_beside.fetch_add(1, Ordering::Relaxed) >= limit::most_open() {
            held.open = None;
        }
        Ok(held.into_input(&path))
    }

    fn file(&self, path: &Path) -> Result<Option<OpenFile<'_>>> {
        self.open(path).map(Some)
    }

    fn stamp(&self) -> Option<Stamp> {
        self.first.stamp.clone()
    }

    fn check_unchanged(&self, path: &Path) -> Result<()> {
        self.check(&*self.open(path)?, path)
    }

    fn is_file(&self) -> bool {
        true
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        Identity {
            len: metadata.len(),
            stamp: Stamp::of(metadata),
            file: file_of(metadata),
        }
    }

    /// Returns whether `file` is the file that has this identity, however it has changed.
    fn is_of(&self, file: &File) -> bool {
        file.metadata()
            .is_ok_and(|found| file_of(&found) == self.file)
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_was_closed_must_be_the_same_when_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("w.bin");
        fs::write(&path, "weights").unwrap();
        let file = File::open(&path).unwrap();
        let metadata = file.metadata().unwrap();
        let mut held = Held::new(&path, file).unwrap();
        assert!(matches!(held.open(&path).unwrap(), OpenFile::Held(_)));
        held.open = None;
        assert!(matches!(held.open(&path).unwrap(), OpenFile::Again(_)));
        held.check_unchanged(&path).unwrap();

        // While the first file exists, another file has another number.
        let (elsewhere, copy) = (dir.path().join("elsewhere"), dir.path().join("copy"));
        fs::write(&copy, "weights").unwrap();
        let modified = metadata.modified().unwrap();
        let copied = File::options().write(true).open(&copy).unwrap();
        copied.set_modified(modified).unwrap();
        fs::rename(&path, &elsewhere).unwrap();
        fs::rename(&copy, &path).unwrap();
        let changed = |held: &Held| match held.open(&path) {
            Err(Error::InputChanged(of)) => of == path,
            _ => false,
        };
        assert!(changed(&held));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(held.open(&path), Err(Error::Io { .. })));
    }
}
