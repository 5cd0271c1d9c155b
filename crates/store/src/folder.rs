//! The folders of outputs.
//!
//! The user names the folder of a model, which may be reached through links. An untrusted model
//! names the folders of external data below it, so no part of these may be a link. On Linux this
//! holds even if others change folders meanwhile: each folder is opened in the one before it, and
//! files are made in the open folder. On other systems each folder is checked before use.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io as io_error};
use crate::location::folder_of;

/// The path of an output file.
#[derive(Clone, Debug)]
pub struct OutputPath {
    /// The file.
    pub path: PathBuf,
    /// How many of the folders above it the model named, rather than the user.
    pub below: usize,
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    /// The path that reaches it while it is open.
    path: PathBuf,
    #[cfg(target_os = "linux")]
    _open: Option<std::os::fd::OwnedFd>,
}

/// Folders made for an output, the innermost first. Dropping this removes those that are empty.
#[derive(Debug, Default)]
pub struct MadeFolders(Vec<OutputPath>);

impl OutputPath {
    /// Opens the folder, and makes it if it is missing.
    ///
    /// # Errors
    /// `Usage` if it leads through a link that the user did not name; `Io`.
    pub fn make_folder(&self) -> Result<(Folder, MadeFolders)> {
        let (base, names) = self.parts();
        let mut made = MadeFolders::default();
        let fault = io_error("create folder", base);
        made.make(base).map_err(fault)?;
        let mut folder = Folder::open(base)?;
        let mut path = base.to_owned();
        for (depth, name) in names.into_iter().enumerate() {
            path.push(name);
            let below = depth;
            match folder.make(name) {
                Ok(()) => made.0.insert(
                    0,
                    OutputPath {
                        path: path.clone(),
                        below,
                    },
                ),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("create folder", &path)(error)),
            }
            folder = folder.enter(name, &path)?;
        }
        Ok((folder, made))
    }

    /// Opens the existing folder.
    pub fn folder(&self) -> Result<Folder> {
        let (base, names) = self.parts();
        let mut path = base.to_owned();
        names
            .into_iter()
            .try_fold(Folder::open(base)?, |folder, name| {
                path.push(name);
                folder.enter(name, &path)
            })
    }

    /// Returns the path of the file through its open `folder`.
    pub fn within(&self, folder: &Folder) -> PathBuf {
        folder.path.join(self.path.file_name().unwrap_or_default())
    }

    /// Removes the file.
    pub fn remove(&self) -> Result<()> {
        let folder = self.folder()?;
        fs::remove_file(self.within(&folder)).map_err(io_error("remove", &self.path))
    }

    /// Splits the path into the folder that the user named, and the names of the folders below it.
    fn parts(&self) -> (&Path, Vec<&OsStr>) {
        let mut base = folder_of(&self.path);
        let mut names = Vec::new();
        for _ in 0..self.below {
            names.extend(base.file_name());
            base = folder_of(base);
        }
        names.reverse();
        (base, names)
    }
}

#[cfg(target_os = "linux")]
impl Folder {
    /// Opens an existing folder.
    fn open(path: &Path) -> Result<Folder> {
        Ok(Folder {
            path: path.to_owned(),
            _open: None,
        })
    }

    fn make(&self, name: &OsStr) -> io::Result<()> {
        fs::create_dir(self.path.join(name))
    }

    /// Opens the folder `name` in this one. `path` names it in messages.
    fn enter(self, name: &OsStr, path: &Path) -> Result<Folder> {
        use std::os::fd::AsRawFd;

        use rustix::fs::{CWD, Mode, OFlags, openat};
        use rustix::io::Errno;

        // Through the open descriptor, the system looks up only the last part again.
        let from = self.path.join(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(CWD, &from, flags, Mode::empty()) {
            Ok(open) => Ok(Folder {
                path: format!("/proc/self/fd/{}", open.as_raw_fd()).into(),
                _open: Some(open),
            }),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(not_a_folder(path)),
            Err(error) => Err(io_error("open", path)(error.into())),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Folder {
    fn open(path: &Path) -> Result<Folder> {
        let path = path.to_owned();
        Ok(Folder { path })
    }

    fn make(&self, name: &OsStr) -> io::Result<()> {
        fs::create_dir(self.path.join(name))
    }

    fn enter(self, name: &OsStr, path: &Path) -> Result<Folder> {
        let folder = self.path.join(name);
        let metadata = fs::symlink_metadata(&folder).map_err(io_error("open", path))?;
        if metadata.is_dir() {
            Ok(Folder { path: folder })
        } else {
            Err(not_a_folder(path))
        }
    }
}

impl Folder {
    /// Returns the path that reaches it while it is open.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the names in it, if the system can, so that a power loss does not undo them. Either
    /// way, each file is whole or absent.
    pub fn sync(&self) {
        sync_folder(&self.path);
    }
}

/// Syncs the names in the folder at a path, as [`Folder::sync`] does.
pub fn sync_folder(folder: &Path) {
    if cfg!(unix)
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

fn not_a_folder(path: &Path) -> Error {
    let path = path.to_owned();
    Error::NotAFolder { path }
}

impl MadeFolders {
    /// Makes the folder at `path`, and those above it.
    fn make(&mut self, path: &Path) -> io::Result<()> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = path.ancestors().take_while(missing).map(|path| OutputPath {
            path: path.to_owned(),
            below: 0,
        });
        self.0 = made.collect();
        fs::create_dir_all(path)
    }

    /// Keeps the folders, and syncs their names if `sync`.
    pub fn keep(mut self, sync: bool) {
        for made in self.0.drain(..) {
            if sync && let Ok(folder) = made.folder() {
                folder.sync();
            }
        }
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for made in &self.0 {
            if let Ok(folder) = made.folder() {
                let _ = fs::remove_dir(made.within(&folder));
            }
        }
    }
}
