//! The files of a model, opened for reading.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::beside;
use crate::change::Change;
use crate::error::{Error, Result, io};
use crate::file_id::{is_at, try_lock};
use crate::location::Location;
use crate::object_url::ObjectUrl;
use crate::output::Permitted;
use crate::stamp::{Stamp, Version};

pub struct Input {
    /// Its path, or the URL of an object, for messages.
    pub path: PathBuf,
    /// Length in bytes when it was opened.
    pub len: u64,
    /// The bytes that take the place of its own.
    edited: Option<Bytes>,
    /// The change of its bytes as they are read, and the name of external data in it.
    changed: Option<(Arc<dyn Change>, Option<String>)>,
    /// Length in bytes without edits.
    len_before: u64,
    backing: Arc<dyn Backing>,
}

/// Where the bytes of the input at `path` lie.
pub(crate) trait Backing: Send + Sync {
    fn read_exact_at(&self, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// Opens the external file that the model at `path` calls `name`, which is normalised.
    fn open_beside(&self, path: &Path, name: &str) -> Result<Input>;

    /// Returns the open file, or opens it again.
    fn file(&self, _path: &Path) -> Result<Option<Arc<File>>> {
        Ok(None)
    }

    /// Returns the file if it is one that stays open.
    fn held(&self) -> Option<&File> {
        None
    }

    fn url(&self) -> Option<&ObjectUrl> {
        None
    }

    fn version(&self) -> Option<Version> {
        None
    }

    fn stamp(&self) -> Option<Stamp> {
        None
    }

    fn check_unchanged(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    /// Returns who may do what with files made of this one, unless its metadata say it.
    fn permitted(&self) -> Permitted {
        Permitted::OWNER
    }

    fn is_file(&self) -> bool {
        false
    }
}

opaque!(Input);

impl Input {
    pub(crate) fn new(path: PathBuf, len: u64, backing: Arc<dyn Backing>) -> Input {
        Input {
            path,
            len,
            edited: None,
            changed: None,
            len_before: len,
            backing,
        }
    }

    pub fn edited(self, bytes: Bytes) -> Input {
        Input {
            len: bytes.len() as u64,
            edited: Some(bytes),
            ..self
        }
    }

    pub fn before_edit(&self) -> Option<Input> {
        let of = || Input {
            changed: self.changed.clone(),
            ..Input::new(self.path.clone(), self.len_before, self.backing.clone())
        };
        self.edited.as_ref().map(|_| of())
    }

    /// Changes its bytes, and those of external data beside it, as they are read.
    pub(crate) fn changed(self, by: Arc<dyn Change>) -> Input {
        Input {
            changed: Some((by, None)),
            ..self
        }
    }

    /// Returns whether its bytes are those of its backing.
    fn is_itself(&self) -> bool {
        self.edited.is_none() && self.changed.is_none()
    }

    pub fn read_all(&self) -> Result<Vec<u8>> {
        let mut bytes = zeros(self.len, &self.path)?;
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Opens the external data file that the model in this file calls `name`: see
    /// [`beside::open`].
    pub fn open_beside(&self, name: &str) -> Result<Input> {
        beside::check_normalised(name)?;
        let beside = self.backing.open_beside(&self.path, name)?;
        let of_name = |(by, _): &(Arc<dyn Change>, _)| (Arc::clone(by), Some(name.to_owned()));
        Ok(Input {
            changed: self.changed.as_ref().map(of_name),
            ..beside
        })
    }

    /// Opens all external data files that the model in this file calls `names`, in their order.
    /// Fails if two names lead to one file, or one to the model file itself.
    pub fn open_all_beside(&self, names: &[String]) -> Result<Vec<Input>> {
        let inputs = names.iter().map(|name| self.open_beside(name));
        let inputs = inputs.collect::<Result<Vec<Input>>>()?;
        // In a store or in memory, different names are different files.
        if self.backing.is_file() && !names.is_empty() {
            let model = self.path.canonicalize().map_err(io("read", &self.path))?;
            beside::check_apart(&model, names.iter().zip(inputs.iter().map(|of| &*of.path)))?;
        }
        Ok(inputs)
    }

    /// Returns its location, with a canonical path for a file, or `None` if the path no longer
    /// leads to a file.
    pub fn location(&self) -> Option<Location> {
        match self.backing.is_file() {
            true => self.path.canonicalize().ok().map(Location::File),
            false => self.backing.url().map(Location::from),
        }
    }

    pub fn version(&self) -> Option<Version> {
        self.backing.version()
    }

    pub fn stamp(&self) -> Option<Stamp> {
        self.backing.stamp()
    }

    /// Returns whether reading waits for a network rather than for a disk.
    pub fn is_remote(&self) -> bool {
        self.edited.is_none() && self.backing.url().is_some()
    }

    pub fn is_file(&self) -> bool {
        self.is_itself() && self.backing.is_file()
    }

    /// Returns the file if it is one: open, or opened again.
    pub fn file(&self) -> Result<Option<Arc<File>>> {
        match self.is_itself() {
            true => self.backing.file(&self.path),
            false => Ok(None),
        }
    }

    pub fn held(&self) -> Option<&File> {
        self.backing.held().filter(|_| self.is_itself())
    }

    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        if let Some(bytes) = &self.edited {
            return copy_at(bytes, buffer, offset).map_err(io("read", &self.path));
        }
        let read = |buffer: &mut [u8], at| self.backing.read_exact_at(&self.path, buffer, at);
        read(buffer, offset)?;
        match &self.changed {
            Some((by, name)) => by.change(name.as_deref(), buffer, offset, &read),
            None => Ok(()),
        }
    }

    /// Fails if the file was written to since it was opened.
    pub fn check_unchanged(&self) -> Result<()> {
        self.backing.check_unchanged(&self.path)
    }

    pub fn check_in_place(&self) -> Result<()> {
        match self.backing.file(&self.path)? {
            Some(file) if is_at(&file, &self.path) => Ok(()),
            _ => Err(Error::InputChanged(self.path.clone())),
        }
    }

    /// Locks the file against changes in place while it is open, and checks that its path still
    /// leads to it.
    pub fn lock_in_place(&self) -> Result<()> {
        let file = self.backing.file(&self.path)?;
        match file.map(|file| try_lock(&file)) {
            Some(Err(fs::TryLockError::WouldBlock)) => Err(Error::Busy(self.path.clone())),
            // Some network file systems lack locks.
            _ => self.check_in_place(),
        }
    }

    pub fn permitted(&self) -> Result<Permitted> {
        let like = self.metadata()?;
        Ok(like.map_or_else(|| self.backing.permitted(), |like| Permitted::like(&like)))
    }

    /// Returns the present metadata of a file, even if it was edited.
    pub fn metadata(&self) -> Result<Option<Metadata>> {
        let file = self.backing.file(&self.path)?;
        let metadata = file.map(|file| file.metadata()).transpose();
        metadata.map_err(io("read", &self.path))
    }
}

/// Returns memory for `len` bytes of the file at `path`.
pub fn zeros(len: u64, path: &Path) -> Result<Vec<u8>> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(len).map_err(std::io::Error::other);
    reserved.map_err(io("find memory for", path))?;
    bytes.resize(len, 0);
    Ok(bytes)
}

pub(crate) fn copy_at(bytes: &[u8], buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let part = bytes.get(start..start.saturating_add(buffer.len()));
    buffer.copy_from_slice(part.ok_or(std::io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

#[cfg(unix)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
pub fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(not(any(unix, windows)))]
pub use crate::seek::read_exact_at;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_is_replaced_or_written_to_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("model"), dir.path().join("other"));
        fs::write(&path, "old").unwrap();
        fs::write(&other, "new").unwrap();
        let input = Input::open(&path.as_path().into()).unwrap();
        input.check_in_place().unwrap();
        input.check_unchanged().unwrap();

        // Wine replaces no open file.
        fs::rename(&path, dir.path().join("before")).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(matches!(
            input.check_in_place(),
            Err(Error::InputChanged { .. })
        ));
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            input.check_in_place(),
            Err(Error::InputChanged { .. })
        ));
    }

    #[test]
    fn a_time_that_is_set_back_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        fs::write(&path, "old").unwrap();
        let input = Input::open(&path.as_path().into()).unwrap();
        let modified = input.metadata().unwrap().unwrap().modified().unwrap();
        // File systems measure time in ticks of the clock.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "new").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        assert!(matches!(
            input.check_unchanged(),
            Err(Error::InputChanged { .. })
        ));
    }
}
