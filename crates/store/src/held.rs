//! Input files: most stay open, and in a model with very many files, the rest are opened for each
//! read.
//!
//! A process may have few files open at once (`ulimit -n`), and some exporters write one external
//! data file per tensor. A file that was closed must be unchanged when it is opened again.

use std::fs::{File, Metadata};
use std::ops::Deref;
use std::path::Path;

use crate::beside;
use crate::error::{Error, Result, io as io_error};
use crate::stamp::Stamp;

/// A file that is open, or reopened for each read.
#[derive(Debug)]
pub(crate) struct Held {
    open: Option<File>,
    first: Identity,
}

/// A file that stays open while this lives.
#[derive(Debug)]
pub enum OpenFile<'a> {
    /// It stays open.
    Held(&'a File),
    /// It closes on drop.
    Again(File),
}

/// Properties that change when a file is written to or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    len: u64,
    stamp: Option<Stamp>,
    /// The device of the file system, and the file's number there; 0 if unknown.
    device: u64,
    number: u64,
}

impl Deref for OpenFile<'_> {
    type Target = File;
    fn deref(&self) -> &File {
        match self {
            OpenFile::Held(file) => file,
            OpenFile::Again(file) => file,
        }
    }
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

impl Held {
    /// Takes the open `file`.
    pub(crate) fn new(file: File, metadata: &Metadata) -> Held {
        let first = Identity::of(metadata);
        let open = Some(file);
        Held { open, first }
    }

    /// Returns the file if it stays open.
    pub(crate) fn open(&self) -> Option<&File> {
        self.open.as_ref()
    }

    /// Closes the file until it is read.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    /// Returns the file, which lies at the canonical `path`.
    pub(crate) fn file(&self, path: &Path) -> Result<OpenFile<'_>> {
        if let Some(file) = &self.open {
            return Ok(OpenFile::Held(file));
        }
        let file = beside::open_canonical(path).map_err(io_error("open", path))?;
        let file = OpenFile::Again(file);
        self.check(&file, path)?;
        Ok(file)
    }

    /// Returns its stamp from when it was first opened.
    pub(crate) fn stamp(&self) -> Option<&Stamp> {
        self.first.stamp.as_ref()
    }

    /// Fails if the file at `path` was written to since it was first opened.
    pub(crate) fn check_unchanged(&self, path: &Path) -> Result<()> {
        self.check(&*self.file(path)?, path)
    }

    fn check(&self, file: &File, path: &Path) -> Result<()> {
        let metadata = file.metadata().map_err(io_error("read", path))?;
        if Identity::of(&metadata) == self.first {
            Ok(())
        } else {
            Err(Error::InputChanged {
                path: path.to_owned(),
            })
        }
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        #[cfg(unix)]
        let (device, number) = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let (device, number) = (0, 0);
        Identity {
            len: metadata.len(),
            stamp: Stamp::of(metadata),
            device,
            number,
        }
    }

    /// Returns whether `file` is the file that has this identity, however it has changed.
    fn is_of(&self, file: &File) -> bool {
        let found = file.metadata().map(|found| Identity::of(&found));
        found.is_ok_and(|found| (found.device, found.number) == (self.device, self.number))
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
        let mut held = Held::new(file, &metadata);
        assert!(matches!(held.file(&path).unwrap(), OpenFile::Held(_)));
        held.close();
        assert!(matches!(held.file(&path).unwrap(), OpenFile::Again(_)));
        held.check_unchanged(&path).unwrap();

        // While the first file exists, another file has another number.
        let (elsewhere, copy) = (dir.path().join("elsewhere"), dir.path().join("copy"));
        fs::write(&copy, "weights").unwrap();
        let modified = metadata.modified().unwrap();
        let copied = File::options().write(true).open(&copy).unwrap();
        copied.set_modified(modified).unwrap();
        fs::rename(&path, &elsewhere).unwrap();
        fs::rename(&copy, &path).unwrap();
        let changed = |held: &Held| match held.file(&path) {
            Err(Error::InputChanged { path: of }) => of == path,
            _ => false,
        };
        assert!(changed(&held));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(matches!(held.file(&path), Err(Error::Io { .. })));
    }
}
