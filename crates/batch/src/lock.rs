//! Locks an output folder, so that two batches never do the same part of it at once.
//!
//! A batch that does part `I` of `N` (part 0 of 1 is all of it) holds a lock on the file
//! `part-I-of-N.lock` in the folder of the records. The system releases the lock when the process
//! ends for any reason. Parts without common models may run at once.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use onnxseal_core::io as io_error;
use onnxseal_store::folder::{MadeFolders, OutputPath};
use onnxseal_store::{is_at, no_links, try_lock};

use crate::RECORDS;
use crate::error::{Error, Result};
use crate::shard::Shard;
use crate::watch::Watch;

/// How often to try, and how long to wait in between, because other processes lock a file briefly
/// to test it.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// The most bytes of a lock file.
const MAX_HOLDER_BYTES: u64 = 200;

/// The lock on our part of the output folder, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    file: Option<File>,
    path: PathBuf,
    /// Dropped last, which removes folders made for the lock if they are empty.
    _made: MadeFolders,
}

impl Hold {
    /// Locks our part of the output folder `out`. Returns `None` where the file system has no locks.
    pub(crate) fn take(
        out: &Path,
        shard: Option<Shard>,
        watch: &dyn Watch,
    ) -> Result<Option<Hold>> {
        let shard = shard.unwrap_or(Shard::ALL);
        let path = out.join(RECORDS).join(name(shard));
        let mut by = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
            let made = make(out)?;
            let file = match open(out, shard) {
                // An ending process has removed the folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(io_error("open", &path))?,
            };
            match try_lock(&file) {
                Ok(()) if is_at(&file, &path) => {
                    say_who(&file);
                    let hold = Hold {
                        file: Some(file),
                        path: path.clone(),
                        _made: made,
                    };
                    match others(out, shard)? {
                        None => return Ok(Some(hold)),
                        holder => by = holder,
                    }
                }
                // An ending process removed the file before we locked it.
                Ok(()) => (),
                Err(TryLockError::WouldBlock) => by = Some(holder(&file)),
                Err(TryLockError::Error(_)) => {
                    watch.note(&format!(
                        "{} has no locks: nothing keeps another batch from writing there at the same time",
                        out.display()
                    ));
                    let _ = fs::remove_file(&path);
                    return Ok(None);
                }
            }
        }
        Err(Error::InUse {
            path: out.to_owned(),
            by: by.unwrap_or_else(|| UNKNOWN.to_owned()),
        })
    }
}

/// Writes our name into the file, for processes that find it locked.
fn say_who(mut file: &File) {
    let process = std::process::id();
    let host = fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.or_else(|_| std::env::var("COMPUTERNAME"));
    let text = match host.unwrap_or_default().trim() {
        "" => format!("process {process}"),
        host => format!("process {process} on {host}"),
    };
    let _ = (file.set_len(0)).and_then(|()| file.write_all(text.as_bytes()));
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Remove it while we hold the lock, so that nobody else can have taken it.
        let Some(file) = self.file.take() else {
            return;
        };
        if is_at(&file, &self.path) {
            let _ = fs::remove_file(&self.path);
            // On Windows a file may be in its folder as long as it is open.
            drop(file);
            // Removes the folder if it is empty.
            let _ = self.path.parent().map(fs::remove_dir);
        }
    }
}

/// Makes the folder of the records, and refuses a link.
fn make(out: &Path) -> Result<MadeFolders> {
    let records = out.join(RECORDS);
    if fs::symlink_metadata(&records).is_ok_and(|metadata| metadata.is_symlink()) {
        let text = "it is a link, and records lie in the output folder itself";
        return Err(io_error("create folder", &records)(io::Error::other(text)).into());
    }
    let path = records.join("part");
    let (_, made) = OutputPath { path, below: 0 }.make_folder()?;
    Ok(made)
}

fn name(shard: Shard) -> String {
    let Shard { index, count } = shard;
    format!("part-{index}-of-{count}.lock")
}

/// Returns the part of a lock file.
fn part(name: &str) -> Option<Shard> {
    let numbers = name.strip_prefix("part-")?.strip_suffix(".lock")?;
    let (index, count) = numbers.split_once("-of-")?;
    Shard::new(index.parse().ok()?, count.parse().ok()?)
}

fn open(out: &Path, shard: Shard) -> io::Result<File> {
    let relative = Path::new(RECORDS).join(name(shard));
    match no_links::open_or_create(out, &relative) {
        // It belongs to another user, whose process was killed.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            no_links::open(out, &relative)?.ok_or(error)
        }
        file => file,
    }
}

/// Returns the holder of a part, other than `ours`, that may contain a model of ours. Removes
/// abandoned lock files.
fn others(out: &Path, ours: Shard) -> Result<Option<String>> {
    let records = out.join(RECORDS);
    let entries = fs::read_dir(&records).map_err(io_error("read", &records))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(other) = name.to_str().and_then(part).filter(|other| *other != ours) else {
            continue;
        };
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let for_writing = File::options().read(true).write(true).open(&path);
        let Ok(file) = for_writing.or_else(|_| File::open(&path)) else {
            continue;
        };
        match try_lock(&file) {
            Ok(()) if is_at(&file, &path) => drop(fs::remove_file(&path)),
            Err(TryLockError::WouldBlock) if other.may_share_with(ours) => {
                return Ok(Some(holder(&file)));
            }
            _ => (),
        }
    }
    Ok(None)
}

const UNKNOWN: &str = "it does not say which";

fn holder(mut file: &File) -> String {
    let mut text = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(MAX_HOLDER_BYTES).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    match (read, text.trim()) {
        (Ok(_), holder) if !holder.is_empty() => holder.to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use onnxseal_core::{Error as CoreError, Silent};

    use super::*;

    fn take(out: &Path, part: Option<&str>) -> Result<Option<Hold>> {
        Hold::take(out, part.map(|part| part.parse().unwrap()), &Silent)
    }

    #[test]
    fn one_batch_at_a_time_has_a_part() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a/out");
        let all = take(&out, None).unwrap();
        for part in [None, Some("0/1"), Some("2/3")] {
            let error = take(&out, part).unwrap_err();
            let id = std::process::id().to_string();
            assert!(matches!(error, Error::InUse { by, .. } if by.contains(&id)));
        }
        drop(all);
        // Neither the holder nor those refused leave anything behind.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let parts = [take(&out, Some("0/4")), take(&out, Some("1/4"))];
        let more = [take(&out, Some("2/4")), take(&out, Some("3/8"))];
        assert!(parts.iter().chain(&more).all(Result::is_ok));
        for part in [None, Some("0/4"), Some("3/4"), Some("1/2"), Some("0/3")] {
            assert!(take(&out, part).is_err(), "{part:?}");
        }
        drop(parts);
        assert!(take(&out, Some("0/4")).is_ok());
        drop(more);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_process_held_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let records = dir.path().join(RECORDS);
        fs::create_dir(&records).unwrap();
        for name in ["part-0-of-1.lock", "part-1-of-3.lock"] {
            fs::write(records.join(name), "process 1").unwrap();
        }
        fs::write(records.join("other.lock"), "").unwrap();
        let hold = take(dir.path(), None).unwrap();
        assert!(!records.join("part-1-of-3.lock").exists());
        assert!(records.join("other.lock").exists());
        drop(hold);
        assert!(!records.join("part-0-of-1.lock").exists());
    }

    #[cfg(unix)]
    #[test]
    fn records_are_in_the_folder_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (out, elsewhere) = (dir.path().join("out"), dir.path().join("elsewhere"));
        fs::create_dir(&out).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, out.join(RECORDS)).unwrap();
        assert!(matches!(
            take(&out, None),
            Err(Error::Core(CoreError::Store(_)))
        ));
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
