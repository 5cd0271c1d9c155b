//! The files of a model, opened for reading.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::beside;
#[cfg(feature = "object-store")]
use crate::error::FileFault;
use crate::error::{Error, Result, io};
use crate::location::{Location, folder_of};
use crate::map::Map;
use crate::memory::{Bytes, InMemory};
#[cfg(feature = "object-store")]
use crate::object::remote::{Object, Remote};
#[cfg(feature = "object-store")]
use crate::object_url::ObjectUrl;
use crate::version::Version;

/// One file of a model, open for reading.
#[derive(Debug)]
pub struct Input {
    /// Where it lies, for messages: the URL of an object.
    pub path: PathBuf,
    /// Length in bytes when it was opened.
    pub len: u64,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    File {
        file: File,
        stamp: Stamp,
    },
    Memory {
        bytes: Bytes,
        beside: Arc<BTreeMap<String, Bytes>>,
    },
    #[cfg(feature = "object-store")]
    Object {
        url: ObjectUrl,
        remote: Box<Remote>,
    },
    /// What is made of another.
    Edited {
        bytes: Bytes,
        of: Box<Input>,
    },
}

/// What changes when somebody writes to a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    /// Change time in seconds and nanoseconds, which nobody can set back; 0 where there is none.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let changed = (0, 0);
        let modified = metadata.modified().ok();
        Stamp { modified, changed }
    }
}

impl Input {
    /// Opens what lies at `location`.
    ///
    /// # Errors
    /// [`Error::Io`], also for what is no regular file; [`Error::NoObjectStores`].
    pub fn open(location: &Location) -> Result<Input> {
        match location {
            Location::File(path) => {
                // Asked first as well: opening a pipe would wait for its other end.
                check_regular(path, &fs::metadata(path).map_err(io("open", path))?)?;
                let file = File::open(path).map_err(io("open", path))?;
                Input::of(path, file)
            }
            #[cfg(feature = "object-store")]
            Location::Object(url) => Ok(Input::of_object(url, Object::at(url)?.open()?)),
            #[cfg(not(feature = "object-store"))]
            Location::Object(_) => Err(unreachable_object(location)),
            Location::Memory(model) => Ok(Input::of_memory(model.clone())),
        }
    }

    /// The file that was opened from `path`.
    pub fn of(path: &Path, file: File) -> Result<Input> {
        let metadata = file.metadata().map_err(io("read", path))?;
        check_regular(path, &metadata)?;
        let (len, stamp) = (metadata.len(), Stamp::of(&metadata));
        let path = path.to_owned();
        let backing = Backing::File { file, stamp };
        Ok(Input { path, len, backing })
    }

    /// The model file of a model in memory.
    fn of_memory(model: InMemory) -> Input {
        let InMemory {
            name,
            model,
            external,
        } = model;
        Input::of_bytes(name, model, Arc::new(external))
    }

    fn of_bytes(path: PathBuf, bytes: Bytes, beside: Arc<BTreeMap<String, Bytes>>) -> Input {
        let len = bytes.len() as u64;
        let backing = Backing::Memory { bytes, beside };
        Input { path, len, backing }
    }

    #[cfg(feature = "object-store")]
    fn of_object(url: &ObjectUrl, remote: Remote) -> Input {
        let (path, len) = (PathBuf::from(url.to_string()), remote.len_bytes());
        let url = url.clone();
        let remote = Box::new(remote);
        let backing = Backing::Object { url, remote };
        Input { path, len, backing }
    }

    /// This file, with other bytes.
    pub fn edited(self, bytes: Bytes) -> Input {
        let (path, len) = (self.path.clone(), bytes.len() as u64);
        let of = Box::new(self);
        let backing = Backing::Edited { bytes, of };
        Input { path, len, backing }
    }

    /// The file before it was [edited](Input::edited).
    pub fn before_edit(&self) -> Option<&Input> {
        match &self.backing {
            Backing::Edited { of, .. } => Some(of),
            _ => None,
        }
    }

    /// All of its bytes.
    pub fn read_all(&self) -> Result<Vec<u8>> {
        let no_memory = |error| io("find memory for", &self.path)(std::io::Error::other(error));
        let len = usize::try_from(self.len).map_err(std::io::Error::other);
        let len = len.map_err(io("read", &self.path))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(no_memory)?;
        bytes.resize(len, 0);
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Opens the external data file that the model in this file calls `path`.
    ///
    /// # Errors
    /// [`Error::External`] where `path` is not normalised, leads out of the model's folder or to the
    /// model; [`Error::Io`].
    pub fn open_beside(&self, path: &str) -> Result<Input> {
        beside::check_normalised(path)?;
        match &self.backing {
            Backing::File { .. } => {
                let (path, file) = beside::open(folder_of(&self.path), path)?;
                Input::of(&path, file)
            }
            Backing::Memory { beside, .. } => {
                let name = folder_of(&self.path).join(path);
                match beside.get(path) {
                    Some(bytes) => Ok(Input::of_bytes(name, bytes.clone(), Arc::clone(beside))),
                    None => Err(io("open", &name)(std::io::ErrorKind::NotFound.into())),
                }
            }
            #[cfg(feature = "object-store")]
            Backing::Object { url, remote } => {
                let beside = url.beside(path);
                if beside == *url {
                    return Err(Error::External {
                        location: path.to_owned(),
                        fault: FileFault::Shared("the model".to_owned()),
                    });
                }
                let remote = remote.sibling(&beside)?.open()?;
                Ok(Input::of_object(&beside, remote))
            }
            Backing::Edited { of, .. } => of.open_beside(path),
        }
    }

    /// Where it lies. Paths of files are canonical, and absent where they lead nowhere by now.
    pub fn location(&self) -> Option<Location> {
        match &self.backing {
            Backing::File { .. } => self.path.canonicalize().ok().map(Location::File),
            Backing::Memory { .. } => None,
            #[cfg(feature = "object-store")]
            Backing::Object { url, .. } => Some(url.into()),
            Backing::Edited { of, .. } => of.location(),
        }
    }

    /// Which of the objects that had its name it is; `None` for a file.
    pub fn version(&self) -> Option<Version> {
        match &self.backing {
            #[cfg(feature = "object-store")]
            Backing::Object { remote, .. } => Some(remote.version()),
            Backing::File { .. } | Backing::Memory { .. } => None,
            Backing::Edited { of, .. } => of.version(),
        }
    }

    /// Whether reading waits for a network rather than for a disk.
    pub fn is_remote(&self) -> bool {
        match self.backing {
            Backing::File { .. } | Backing::Memory { .. } => false,
            #[cfg(feature = "object-store")]
            Backing::Object { .. } => true,
            Backing::Edited { .. } => false,
        }
    }

    /// The file, where it is one.
    pub fn file(&self) -> Option<&File> {
        match &self.backing {
            Backing::File { file, .. } => Some(file),
            Backing::Memory { .. } => None,
            #[cfg(feature = "object-store")]
            Backing::Object { .. } => None,
            Backing::Edited { .. } => None,
        }
    }

    /// Maps the file into memory. An object is not mapped: `fill` reads what is wanted of it into
    /// memory of the object's length, which is all zeros at first.
    ///
    /// # Errors
    /// [`Error::Io`], and those of `fill`.
    pub fn map_with<E: From<Error>>(
        &self,
        fill: impl FnOnce(&mut [u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<Map, E> {
        #[cfg(not(feature = "object-store"))]
        let _ = fill;
        match &self.backing {
            Backing::File { file, .. } => {
                Ok(Map::of(file, self.len).map_err(io("map", &self.path))?)
            }
            Backing::Memory { bytes, .. } | Backing::Edited { bytes, .. } => {
                Ok(Map::InMemory(bytes.clone()))
            }
            #[cfg(feature = "object-store")]
            Backing::Object { .. } => {
                let mut filled = Ok(());
                let map = Map::of_memory(self.len, |bytes| {
                    filled = fill(bytes);
                    std::io::Result::Ok(())
                });
                filled?;
                Ok(map.map_err(io("find memory for", &self.path))?)
            }
        }
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        match &self.backing {
            Backing::File { file, .. } => {
                read_exact_at(file, buffer, offset).map_err(io("read", &self.path))
            }
            Backing::Memory { bytes, .. } | Backing::Edited { bytes, .. } => {
                self.copy_at(bytes, buffer, offset)
            }
            #[cfg(feature = "object-store")]
            Backing::Object { remote, .. } => remote.read_exact_at(buffer, offset),
        }
    }

    fn copy_at(&self, bytes: &[u8], buffer: &mut [u8], offset: u64) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let read = bytes
            .get(start..end)
            .map(|part| buffer.copy_from_slice(part));
        read.ok_or_else(|| io("read", &self.path)(std::io::ErrorKind::UnexpectedEof.into()))
    }

    /// Fails if the file was written to since it was opened.
    pub fn check_unchanged(&self) -> Result<()> {
        match &self.backing {
            Backing::File { file, stamp } => {
                let metadata = file.metadata().map_err(io("read", &self.path))?;
                match metadata.len() == self.len && Stamp::of(&metadata) == *stamp {
                    true => Ok(()),
                    false => self.changed(),
                }
            }
            Backing::Memory { .. } => Ok(()),
            #[cfg(feature = "object-store")]
            Backing::Object { remote, .. } => remote.check_unchanged(),
            Backing::Edited { of, .. } => of.check_unchanged(),
        }
    }

    /// Fails if another file has taken the place of this one.
    pub fn check_in_place(&self) -> Result<()> {
        let (ours, there) = (self.metadata()?, fs::symlink_metadata(&self.path));
        match (ours, there) {
            (Some(ours), Ok(there)) if is_same(&ours, &there) => Ok(()),
            _ => self.changed(),
        }
    }

    /// Keeps others from changing it where it lies, as long as it is open, and makes sure that it still
    /// lies there.
    pub fn lock_in_place(&self) -> Result<()> {
        match &self.backing {
            Backing::File { file, .. } => match file.try_lock() {
                Err(std::fs::TryLockError::WouldBlock) => Err(Error::Busy {
                    path: self.path.clone(),
                }),
                // Some network file systems have no locks.
                _ => self.check_in_place(),
            },
            Backing::Memory { .. } => self.check_in_place(),
            #[cfg(feature = "object-store")]
            Backing::Object { .. } => self.check_in_place(),
            Backing::Edited { of, .. } => of.lock_in_place(),
        }
    }

    /// The metadata of a file as of now.
    pub fn metadata(&self) -> Result<Option<Metadata>> {
        match &self.backing {
            Backing::File { file, .. } => file.metadata().map(Some).map_err(io("read", &self.path)),
            Backing::Memory { .. } => Ok(None),
            #[cfg(feature = "object-store")]
            Backing::Object { .. } => Ok(None),
            Backing::Edited { of, .. } => of.metadata(),
        }
    }

    fn changed(&self) -> Result<()> {
        let path = self.path.clone();
        Err(Error::InputChanged { path })
    }
}

/// The error of an object where there is no way to reach one.
pub fn unreachable_object(location: &Location) -> Error {
    let path = location.to_name();
    Error::NoObjectStores { path }
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false if metadata.is_dir() => {
            let error = std::io::Error::new(ErrorKind::IsADirectory, "a folder, not a file");
            Err(io("read", path)(error))
        }
        false => Err(io("read", path)(std::io::Error::other(
            "not a regular file",
        ))),
    }
}

/// Whether it is one and the same file.
#[cfg(unix)]
pub fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Elsewhere an open file cannot be replaced.
#[cfg(not(unix))]
pub fn is_same(_a: &Metadata, _b: &Metadata) -> bool {
    true
}

/// Fills `buffer` with what a file has at `offset`.
///
/// # Errors
/// What the system says; `UnexpectedEof` where the file ends before.
#[cfg(unix)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` with what a file has at `offset`.
///
/// # Errors
/// What the system says.
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

#[cfg(all(test, unix))]
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
        // File systems count time in ticks of the clock.
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
