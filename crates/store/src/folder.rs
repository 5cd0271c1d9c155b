//! The folders of outputs.
//!
//! The user names the folder of a model, which may be reached through links. An untrusted model
//! names the folders of external data below it, so no part of these may be a link. On Linux this
//! holds even if others change folders meanwhile: files are made in the open folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io as io_error};
use crate::location::{folder_of, or_here};
use crate::no_links::Folder;

#[derive(Clone, Debug)]
pub struct OutputPath {
    pub path: PathBuf,
    /// How many of the folders above it the model named, rather than the user.
    pub below: usize,
}

/// Folders made for an output, the innermost first. Dropping this removes those that are empty.
#[derive(Debug, Default)]
pub struct MadeFolders(Vec<OutputPath>);

impl OutputPath {
    pub fn make_folder(&self) -> Result<(Folder, MadeFolders)> {
        let mut made = MadeFolders::default();
        Ok((self.enter(Some(&mut made))?, made))
    }

    pub fn folder(&self) -> Result<Folder> {
        self.enter(None)
    }

    fn enter(&self, mut made: Option<&mut MadeFolders>) -> Result<Folder> {
        let above = self.path.ancestors().nth(self.below + 1);
        let above = above.unwrap_or(Path::new(""));
        let (base, named) = (or_here(above), self.path.strip_prefix(above));
        if let Some(made) = &mut made {
            made.make(base).map_err(io_error("create folder", base))?;
        }
        let (mut folder, mut path) = (Folder::named(base), base.to_owned());
        let names = named.iter().flat_map(|named| named.iter());
        for (below, name) in names.take(self.below).enumerate() {
            path.push(name);
            if let Some(made) = &mut made {
                match fs::create_dir(folder.path().join(name)) {
                    Ok(()) => {
                        let path = path.clone();
                        made.0.insert(0, OutputPath { path, below });
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(io_error("create folder", &path)(error)),
                }
            }
            folder = folder.enter(name).map_err(|error| match error.kind() {
                io::ErrorKind::NotADirectory => Error::NotAFolder(path.clone()),
                _ => io_error("open", &path)(error),
            })?;
        }
        Ok(folder)
    }

    pub fn within(&self, folder: &Folder) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default();
        folder.path().join(name)
    }

    pub fn remove(&self) -> Result<()> {
        let folder = self.folder()?;
        fs::remove_file(self.within(&folder)).map_err(io_error("remove", &self.path))
    }
}

/// Syncs the names in a folder, if the system can, so that a power loss does not undo them. Either
/// way, each file is whole or absent.
pub fn sync_folder(folder: &Path) {
    if cfg!(unix)
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

/// Returns once all of `files`, which lie in `folder` or below, and their names are on the disk.
///
/// On Linux this makes one call per file system instead of per file, which also writes the data of
/// other processes there.
pub fn sync_all(folder: &Path, files: &[PathBuf]) -> Result<()> {
    const ACTION: &str = "put on the disk";
    let mut folders: BTreeSet<&Path> = files.iter().map(|file| folder_of(file)).collect();
    folders.insert(folder);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let mut synced = BTreeSet::new();
        for folder in folders {
            let mut sync = || -> io::Result<()> {
                let file = File::open(folder)?;
                if synced.insert(file.metadata()?.dev()) {
                    rustix::fs::syncfs(file)?;
                }
                Ok(())
            };
            sync().map_err(io_error(ACTION, folder))?;
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        for file in files {
            // Windows flushes only files open for writing, Unix any.
            let open = File::options().read(true).write(cfg!(windows)).open(file);
            open.and_then(|file| file.sync_all())
                .map_err(io_error(ACTION, file))?;
        }
        // Sync names, if the system can.
        let above = folders.iter().flat_map(|folder| folder.ancestors());
        let below = above.filter(|above| above.starts_with(folder));
        for folder in below.collect::<BTreeSet<_>>() {
            sync_folder(folder);
        }
        Ok(())
    }
}

impl MadeFolders {
    fn make(&mut self, path: &Path) -> io::Result<()> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = path.ancestors().take_while(missing).map(|path| OutputPath {
            path: path.to_owned(),
            below: 0,
        });
        self.0 = made.collect();
        fs::create_dir_all(path)
    }

    pub fn keep(mut self, sync: bool) {
        for made in self.0.drain(..) {
            if sync && let Ok(folder) = made.folder() {
                sync_folder(folder.path());
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
