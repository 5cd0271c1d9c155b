//! Files that are read: most stay open, and of a model of very many the rest are opened for each read.
//!
//! A process may have few files open at once (`ulimit -n`), and some exporters write one external data
//! file a tensor. A file that was closed meanwhile must be the same one when it is opened again.

use std::fs::{File, Metadata};
use std::ops::Deref;
use std::path::Path;

use crate::beside;
use crate::error::{Error, Result, io as io_error};
use crate::stamp::Stamp;

/// A file, open or to be opened again.
#[derive(Debug)]
pub(crate) struct Held {
    open: Option<File>,
    first: Identity,
}

/// A file that is open as long as this lives.
#[derive(Debug)]
pub enum OpenFile<'a> {
    /// It stays open.
    Held(&'a File),
    /// It is closed again.
    Again(File),
}

/// What changes when somebody writes to a file, or puts another in its place.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    len: u64,
    stamp: Option<Stamp>,
    /// Of the file system; 0 where there is none.
    device: u64,
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

impl Held {
    /// The open `file`.
    pub(crate) fn new(file: File, metadata: &Metadata) -> Held {
        let first = Identity::of(metadata);
        let open = Some(file);
        Held { open, first }
    }

    /// Closes the file until it is read.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    /// The file, which lies at the canonical `path`.
    ///
    /// # Errors
    /// [`Error::InputChanged`] if it was closed meanwhile and is not what it was; [`Error::Io`].
    pub(crate) fn file(&self, path: &Path) -> Result<OpenFile<'_>> {
        if let Some(file) = &self.open {
            return Ok(OpenFile::Held(file));
        }
        let file = beside::open_canonical(path).map_err(io_error("open", path))?;
        let file = OpenFile::Again(file);
        self.check(&file, path)?;
        Ok(file)
    }

    /// Its stamp when it was opened first.
    pub(crate) fn stamp(&self) -> Option<&Stamp> {
        self.first.stamp.as_ref()
    }

    /// Fails if the file at `path` was written to since it was opened first.
    ///
    /// # Errors
    /// [`Error::InputChanged`], [`Error::Io`].
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
        let device = std::os::unix::fs::MetadataExt::dev(metadata);
        #[cfg(not(unix))]
        let device = 0;
        Identity {
            len: metadata.len(),
            stamp: Stamp::of(metadata),
            device,
        }
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

        // As long as the first one is somewhere, another file has another number.
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
