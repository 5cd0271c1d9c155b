//! Syncs many files to the disk at once.

use std::collections::BTreeSet;
use std::fs::File;
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
        let mut synced = BTreeSet::new();
        for folder in folders {
            let mut open = || -> std::io::Result<Option<File>> {
                let file = File::open(folder)?;
                let is_new = synced.insert(file.metadata()?.dev());
                Ok(is_new.then_some(file))
            };
            if let Some(file) = open().map_err(io_error(ACTION, folder))? {
                rustix::fs::syncfs(file).map_err(|error| io_error(ACTION, folder)(error.into()))?;
            }
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
            crate::folder::sync_folder(folder);
        }
        Ok(())
    }
}

const ACTION: &str = "put on the disk";
