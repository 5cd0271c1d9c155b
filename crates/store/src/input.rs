//! The files of a model, opened for reading.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::beside;
#[cfg(feature = "object-store")]
use crate::error::FileFault;
use crate::error::{Error, Result, io};
use crate::held::{Held, OpenFile};
use crate::limit;
use crate::location::{Location, folder_of};
use crate::memory::{Bytes, InMemory};
#[cfg(feature = "object-store")]
use crate::object::remote::{Object, Remote};
#[cfg(feature = "object-store")]
use crate::object_url::ObjectUrl;
use crate::permitted::Permitted;
use crate::regular::{check_regular, open_regular};
use crate::stamp::Stamp;
use crate::version::Version;

/// One file of a model, open for reading.
#[derive(Debug)]
pub struct Input {
    /// Its path, or the URL of an object, for messages.
    pub path: PathBuf,
    /// Length in bytes when it was opened.
    pub len: u64,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    File {
        held: Held,
        /// The number of files opened beside it.
        n_beside: AtomicUsize,
    },
    Memory {
        bytes: Bytes,
        beside: Arc<BTreeMap<String, Bytes>>,
        permitted: Permitted,
    },
    #[cfg(feature = "object-store")]
    Object { url: ObjectUrl, remote: Box<Remote> },
    /// Edited bytes of another file.
    Edited { bytes: Bytes, of: Box<Input> },
}

impl Input {
    /// Opens the file, object or memory at `location`.
    ///
    /// # Errors
    /// [`Error::Io`], also if it is not a regular file; [`Error::NoObjectStores`].
    pub fn open(location: &Location) -> Result<Input> {
        match location {
            Location::File(path) => Input::of(path, open_regular(path).map_err(io("open", path))?),
            #[cfg(feature = "object-store")]
            Location::Object(url) => Ok(Input::of_object(url, Object::at(url)?.open()?)),
            #[cfg(not(feature = "object-store"))]
            Location::Object(_) => Err(unreachable_object(location)),
            Location::Memory(model) => Ok(Input::of_memory(model.clone())),
        }
    }

    /// Takes the file that was opened from `path`.
    pub fn of(path: &Path, file: File) -> Result<Input> {
        let metadata = file.metadata().map_err(io("read", path))?;
        check_regular(&metadata).map_err(io("read", path))?;
        let (len, held) = (metadata.len(), Held::new(file, &metadata));
        let path = path.to_owned();
        let n_beside = AtomicUsize::new(0);
        let backing = Backing::File { held, n_beside };
        Ok(Input { path, len, backing })
    }

    /// Takes the model file of a model in memory.
    fn of_memory(model: InMemory) -> Input {
        let InMemory {
            name,
            model,
            external,
            permitted,
        } = model;
        Input {
            path: name,
            len: model.len() as u64,
            backing: Backing::Memory {
                bytes: model,
                beside: Arc::new(external),
                permitted,
            },
        }
    }

    #[cfg(feature = "object-store")]
    fn of_object(url: &ObjectUrl, remote: Remote) -> Input {
        let (path, len) = (PathBuf::from(url.to_string()), remote.len_bytes());
        let url = url.clone();
        let remote = Box::new(remote);
        let backing = Backing::Object { url, remote };
        Input { path, len, backing }
    }

    /// Replaces the bytes of this file in memory.
    pub fn edited(self, bytes: Bytes) -> Input {
        let (path, len) = (self.path.clone(), bytes.len() as u64);
        let of = match self.backing {
            Backing::Edited { of, .. } => of,
            _ => Box::new(self),
        };
        let backing = Backing::Edited { bytes, of };
        Input { path, len, backing }
    }

    /// Returns the file before it was [edited](Input::edited).
    pub fn before_edit(&self) -> Option<&Input> {
        match &self.backing {
            Backing::Edited { of, .. } => Some(of),
            _ => None,
        }
    }

    /// Reads all of its bytes.
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
    /// [`Error::External`] if `path` is not normalised, leads out of the model's folder (see
    /// [`beside::open`]) or to the model; [`Error::Io`].
    pub fn open_beside(&self, path: &str) -> Result<Input> {
        beside::check_normalised(path)?;
        match &self.backing {
            Backing::File { n_beside, .. } => {
                let (path, file) = beside::open(&self.path, path)?;
                let mut input = Input::of(&path, file)?;
                if let Backing::File { held, .. } = &mut input.backing
                    && n_beside.fetch_add(1, Ordering::Relaxed) >= limit::most_open()
                {
                    held.close();
                }
                Ok(input)
            }
            Backing::Memory {
                beside, permitted, ..
            } => {
                let name = folder_of(&self.path).join(path);
                let absent = || {
                    let text = "the model is in memory and has no folder: give this file's bytes with it, or the path of the model";
                    io("open", &name)(std::io::Error::new(ErrorKind::NotFound, text))
                };
                let bytes = beside.get(path).ok_or_else(absent)?.clone();
                Ok(Input {
                    path: name,
                    len: bytes.len() as u64,
                    backing: Backing::Memory {
                        bytes,
                        beside: Arc::clone(beside),
                        permitted: *permitted,
                    },
                })
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

    /// Opens all external data files that the model in this file calls `paths`, in their order.
    ///
    /// # Errors
    /// As [`open_beside`](Input::open_beside), and [`Error::External`] if two paths lead to one
    /// file, or one to the model file itself.
    pub fn open_all_beside(&self, paths: &[String]) -> Result<Vec<Input>> {
        let inputs = paths.iter().map(|path| self.open_beside(path));
        let inputs = inputs.collect::<Result<Vec<Input>>>()?;
        // In a store or in memory, different paths are different files.
        if self.is_file() && !paths.is_empty() {
            let model = self.path.canonicalize().map_err(io("read", &self.path))?;
            beside::check_apart(&model, paths.iter().zip(inputs.iter().map(|of| &*of.path)))?;
        }
        Ok(inputs)
    }

    /// Returns its location, with a canonical path for a file, or `None` if the path no longer
    /// leads to a file.
    pub fn location(&self) -> Option<Location> {
        match &self.backing {
            Backing::File { .. } => self.path.canonicalize().ok().map(Location::File),
            Backing::Memory { .. } => None,
            #[cfg(feature = "object-store")]
            Backing::Object { url, .. } => Some(url.into()),
            Backing::Edited { of, .. } => of.location(),
        }
    }

    /// Returns the version of the object; `None` for a file.
    pub fn version(&self) -> Option<Version> {
        match &self.backing {
            #[cfg(feature = "object-store")]
            Backing::Object { remote, .. } => Some(remote.version()),
            Backing::File { .. } | Backing::Memory { .. } => None,
            Backing::Edited { of, .. } => of.version(),
        }
    }

    /// Returns its stamp from when it was opened, which tells without reading it whether it was
    /// changed; `None` if it has none.
    pub fn stamp(&self) -> Option<Stamp> {
        match &self.backing {
            Backing::File { held, .. } => held.stamp().cloned(),
            Backing::Memory { .. } => None,
            #[cfg(feature = "object-store")]
            Backing::Object { remote, .. } => remote.version().stamp(),
            Backing::Edited { of, .. } => of.stamp(),
        }
    }

    /// Returns whether reading waits for a network rather than for a disk.
    pub fn is_remote(&self) -> bool {
        match self.backing {
            Backing::File { .. } | Backing::Memory { .. } => false,
            #[cfg(feature = "object-store")]
            Backing::Object { .. } => true,
            Backing::Edited { .. } => false,
        }
    }

    /// Returns whether it is an unedited file.
    pub fn is_file(&self) -> bool {
        matches!(self.backing, Backing::File { .. })
    }

    /// Returns the open file, if it is one.
    ///
    /// # Errors
    /// [`Error::InputChanged`] and [`Error::Io`] if it must be opened again.
    pub fn file(&self) -> Result<Option<OpenFile<'_>>> {
        match &self.backing {
            Backing::File { held, .. } => held.file(&self.path).map(Some),
            Backing::Memory { .. } => Ok(None),
            #[cfg(feature = "object-store")]
            Backing::Object { .. } => Ok(None),
            Backing::Edited { .. } => Ok(None),
        }
    }

    /// Returns the file if it is one that stays open.
    pub fn held(&self) -> Option<&File> {
        match &self.backing {
            Backing::File { held, .. } => held.open(),
            _ => None,
        }
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        match &self.backing {
            Backing::File { held, .. } => {
                let file = held.file(&self.path)?;
                read_exact_at(&file, buffer, offset).map_err(io("read", &self.path))
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
            Backing::File { held, .. } => held.check_unchanged(&self.path),
            Backing::Memory { .. } => Ok(()),
            #[cfg(feature = "object-store")]
            Backing::Object { remote, .. } => remote.check_unchanged(),
            Backing::Edited { of, .. } => of.check_unchanged(),
        }
    }

    /// Fails if another file has replaced this one.
    pub fn check_in_place(&self) -> Result<()> {
        let (ours, there) = (self.metadata()?, fs::symlink_metadata(&self.path));
        match (ours, there) {
            (Some(ours), Ok(there)) if is_same(&ours, &there) => Ok(()),
            _ => self.changed(),
        }
    }

    /// Locks the file against changes in place while it is open, and checks that its path still
    /// leads to it.
    pub fn lock_in_place(&self) -> Result<()> {
        match &self.backing {
            Backing::File { held, .. } => match held.file(&self.path)?.try_lock() {
                Err(std::fs::TryLockError::WouldBlock) => Err(Error::Busy {
                    path: self.path.clone(),
                }),
                // Some network file systems lack locks.
                _ => self.check_in_place(),
            },
            Backing::Memory { .. } => self.check_in_place(),
            #[cfg(feature = "object-store")]
            Backing::Object { .. } => self.check_in_place(),
            Backing::Edited { of, .. } => of.lock_in_place(),
        }
    }

    /// Returns who may do what with files that are made of this input.
    ///
    /// # Errors
    /// [`Error::Io`] if the metadata of a file cannot be read.
    pub fn permitted(&self) -> Result<Permitted> {
        match &self.backing {
            Backing::Memory { permitted, .. } => Ok(*permitted),
            Backing::Edited { of, .. } => of.permitted(),
            _ => {
                let like = self.metadata()?;
                Ok(like.as_ref().map_or(Permitted::OWNER, Permitted::like))
            }
        }
    }

    /// Returns the present metadata of a file.
    pub fn metadata(&self) -> Result<Option<Metadata>> {
        match &self.backing {
            Backing::File { held, .. } => {
                let file = held.file(&self.path)?;
                file.metadata().map(Some).map_err(io("read", &self.path))
            }
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

/// Makes the error for an object in a build without object stores.
pub fn unreachable_object(location: &Location) -> Error {
    let path = location.to_name();
    Error::NoObjectStores { path }
}

/// Returns whether both describe one file.
#[cfg(unix)]
pub fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Returns `true`: on other systems, an open file cannot be replaced.
#[cfg(not(unix))]
pub fn is_same(_a: &Metadata, _b: &Metadata) -> bool {
    true
}

/// Returns whether two paths lead to one regular file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(a), Ok(b)) if a.is_file() && b.is_file() => {
            if cfg!(unix) {
                is_same(&a, &b)
            } else {
                matches!((one.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b)
            }
        }
        _ => false,
    }
}

/// Fills `buffer` with the bytes of a file at `offset`.
///
/// # Errors
/// The system's error; `UnexpectedEof` if the file ends before.
#[cfg(unix)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` with the bytes of a file at `offset`.
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
