//! Syncs many files to the disk at once.

use std::collections::BTreeSet;
#[cfg(target_os = "linux")]
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Result, io as io_error};
use crate::location::folder_of;

/// Returns once all of `files`, which lie in `folder` or below, and their names are on the disk.
///
/// On Linux this makes one call per file system instead of per file, which also writes the data of
/// other processes there.
pub fn sync_all(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let mut folders: BTreeSet<&Path> = files.iter().map(|file| folder_of(file)).collect();
    folders.insert(folder);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let mut synced = HashSet::new();
        for folder in folders {
            let open = || -> io::Result<Option<File>> {
                let file = File::open(folder)?;
                let is_new = synced.insert(file.metadata()?.dev());
                Ok(is_new.then_some(file))
            };
            if let Some(file) = { open }().map_err(io_error(ACTION, folder))? {
                let result = rustix::fs::syncfs(file).map_err(io::Error::from);
                result.map_err(io_error(ACTION, folder))?;
            }
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        for file in files {
            sync_file(file).map_err(io_error(ACTION, file))?;
        }
        // Sync names, if the system can.
        let above = folders.iter().flat_map(|folder| folder.ancestors());
        let below = above.filter(|above| above.starts_with(folder));
        for folder in below.collect::<BTreeSet<_>>() {
            if cfg!(unix)
                && let Ok(folder) = File::open(folder)
            {
                let _ = folder.sync_all();
            }
        }
        Ok(())
    }
}

const ACTION: &str = "put on the disk";

#[cfg(not(target_os = "linux"))]
fn sync_file(path: &Path) -> io::Result<()> {
    // Windows flushes only files open for writing, Unix any.
    File::options()
        .read(true)
        .write(cfg!(windows))
        .open(path)?
        .sync_all()
}
