//! The folders that outputs go to.
//!
//! The folder of a model is what its user named, and may be reached through links. The folders of
//! external data below it are named by the model, which may be anybody's: no part of them is a link.
//! On Linux that holds whatever others change meanwhile: each folder is opened in the one before it,
//! and files are made in the one that is open. Elsewhere each is looked at before it is used.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io as io_error};
use crate::location::folder_of;

/// Where an output file goes.
#[derive(Clone, Debug)]
pub struct OutputPath {
    /// The file.
    pub path: PathBuf,
    /// How many of the folders above it a model has named, rather than its user.
    pub below: usize,
}

/// A folder, there and open.
#[derive(Debug)]
pub struct Folder {
    /// What reaches it, as long as it is open.
    path: PathBuf,
    #[cfg(target_os = "linux")]
    _open: Option<std::os::fd::OwnedFd>,
}

/// Folders made for an output, the innermost first; dropped, they are gone if they are empty.
#[derive(Debug, Default)]
pub struct MadeFolders(Vec<OutputPath>);

impl OutputPath {
    /// The folder, which is made if it is missing.
    ///
    /// # Errors
    /// `Usage` where it leads through a link that its user did not name; `Io`.
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

    /// The folder, which is there.
    ///
    /// # Errors
    /// As [`make_folder`](OutputPath::make_folder).
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

    /// What reaches the file through its `folder`.
    pub fn within(&self, folder: &Folder) -> PathBuf {
        folder.path.join(self.path.file_name().unwrap_or_default())
    }

    /// Removes the file.
    pub fn remove(&self) -> Result<()> {
        let folder = self.folder()?;
        fs::remove_file(self.within(&folder)).map_err(io_error("remove", &self.path))
    }

    /// The folder that the user named, and the names of those below it.
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
    /// The folder that is there.
    fn open(path: &Path) -> Result<Folder> {
        Ok(Folder {
            path: path.to_owned(),
            _open: None,
        })
    }

    fn make(&self, name: &OsStr) -> io::Result<()> {
        fs::create_dir(self.path.join(name))
    }

    /// The folder `name` in this one, which `path` is for messages.
    fn enter(self, name: &OsStr, path: &Path) -> Result<Folder> {
        use std::os::fd::AsRawFd;

        use rustix::fs::{CWD, Mode, OFlags, openat};
        use rustix::io::Errno;

        // Through a descriptor that is open, no part of this but the last is looked up again.
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
    /// What reaches it, as long as this is open.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the names in it on the disk, where the system can: then a power loss does not take them
    /// back. Whether it can or not, each file is whole or absent.
    pub fn sync(&self) {
        sync_folder(&self.path);
    }
}

/// The same by its path.
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

    /// They stay; their names are put on the disk if `sync`.
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
