//! Input files: most stay open, and in a model with very many files, the rest are opened for each
//! read.
//!
//! A process may have few files open at once (`ulimit -n`), and some exporters write one external
//! data file per tensor. A file that was closed must be unchanged when it is opened again.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::beside;
use crate::error::{Error, Result, io as io_error};
use crate::file_id::FileId;
use crate::input::{Backing, Input, read_exact_at};
use crate::regular::check_regular;
use crate::stamp::Stamp;
use crate::{limit, no_links};

/// A file that is open, or reopened for each read.
#[derive(Debug)]
pub(crate) struct Held {
    open: Option<Arc<File>>,
    /// As it was when it was first opened.
    first: FileId,
    len: u64,
    stamp: Option<Stamp>,
    n_beside: AtomicUsize,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Programs that close all descriptors close this one too. Its number may then be another
        // file's, which is not ours to close.
        if let Some(file) = self.open.take()
            && !FileId::of(&file).is_ok_and(|found| found == self.first)
        {
            std::mem::forget(file);
        }
    }
}

impl Input {
    pub fn of(path: &Path, file: impl Into<Arc<File>>) -> Result<Input> {
        Ok(Held::new(path, file.into())?.into_input(path))
    }
}

impl Held {
    fn new(path: &Path, file: Arc<File>) -> Result<Held> {
        let fault = io_error("read", path);
        let described = file.metadata().and_then(|metadata| {
            check_regular(&metadata)?;
            Ok((metadata.len(), FileId::of(&file)?))
        });
        let (len, first) = described.map_err(fault)?;
        Ok(Held {
            first,
            len,
            stamp: Stamp::of(&file),
            open: Some(file),
            n_beside: AtomicUsize::new(0),
        })
    }

    fn into_input(self, path: &Path) -> Input {
        Input::new(path.to_owned(), self.len, Arc::new(self))
    }

    /// Returns the file, which lies at the canonical `path` if it is closed.
    fn open(&self, path: &Path) -> Result<Arc<File>> {
        if let Some(file) = &self.open {
            return Ok(Arc::clone(file));
        }
        let file = no_links::open_file(path).map_err(io_error("open", path))?;
        self.check(&file, path)?;
        Ok(Arc::new(file))
    }

    fn check(&self, file: &File, path: &Path) -> Result<()> {
        let now = FileId::of(file).and_then(|now| Ok((now, file.metadata()?.len())));
        let now = now.map_err(io_error("read", path))?;
        match now == (self.first, self.len) && Stamp::of(file) == self.stamp {
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
        let mut held = Held::new(&path, file.into())?;
        if self.n_beside.fetch_add(1, Ordering::Relaxed) >= limit::most_open() {
            held.open = None;
        }
        Ok(held.into_input(&path))
    }

    fn file(&self, path: &Path) -> Result<Option<Arc<File>>> {
        self.open(path).map(Some)
    }

    fn held(&self) -> Option<&File> {
        self.open.as_deref()
    }

    fn stamp(&self) -> Option<Stamp> {
        self.stamp.clone()
    }

    fn check_unchanged(&self, path: &Path) -> Result<()> {
        self.check(&*self.open(path)?, path)
    }

    fn is_file(&self) -> bool {
        true
    }
}

#[cfg(test)]
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
        let mut held = Held::new(&path, file.into()).unwrap();
        assert!(held.held().is_some());
        held.open(&path).unwrap();
        held.open = None;
        assert!(held.held().is_none());
        held.open(&path).unwrap();
        held.check_unchanged(&path).unwrap();

        // While the first file exists, another file has another number.
        let (elsewhere, copy) = (dir.path().join("elsewhere"), dir.path().join("copy"));
        fs::write(&copy, "weights").unwrap();
        let modified = metadata.modified().unwrap();
        let copied = File::options().write(true).open(&copy).unwrap();
        copied.set_modified(modified).unwrap();
        drop(copied);
        fs::rename(&path, &elsewhere).unwrap();
        fs::rename(&copy, &path).unwrap();
        let changed = |held: &Held| match held.open(&path) {
            Err(Error::InputChanged(of)) => of == path,
            _ => false,
        };
        assert!(changed(&held));
        fs::remove_file(&path).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(held.open(&path), Err(Error::Io { .. })));
    }
}
