//! Hidden files that become outputs: locked by their writers, and removed once abandoned.
//!
//! A killed process leaves such a file behind. Writers hold a lock on it (`flock`), which the
//! system releases when the process ends for any reason. So the next process that writes to the
//! folder can tell abandoned files from those being written.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::{Builder, NamedTempFile, TempPath};
use zeroize::Zeroizing;

use crate::file_id::{is_at, try_lock};
use crate::location::folder_of;
use crate::no_links::Folder;
use crate::output::Readers;
use crate::parallel::lock;
use crate::stream::{self, There};

const PREFIX: &str = ".onnxseal-";

const N_RANDOM: usize = 6;

/// How often to try again if another process takes a new file for an abandoned one.
const ATTEMPTS: usize = 16;

/// Returns whether a file of this name is unfinished, whether or not its process lives.
pub fn is_unfinished(name: &OsStr) -> bool {
    let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    name.is_some_and(|random| {
        random.len() == N_RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Writes `bytes` to `path`, whole or not at all, and waits until they are on the disk. Without
/// `replace`, no file may exist there. An existing stream gets the bytes.
pub fn write_whole(path: &Path, bytes: &[u8], replace: bool, readers: Readers) -> io::Result<()> {
    if There::at(path).map_err(io::Error::other)? == There::Stream {
        return stream::write(path, bytes, replace);
    }
    write_file(path, bytes, replace, readers, true)
}

/// Writes `bytes` to a new file for its owner alone, whole or not at all, and does not wait for the
/// disk: for what can be made again.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_file(path, bytes, false, Readers::Owner, false)
}

/// Writes `bytes` to `path` in a folder of the caller's own, whole or not at all, readable only by
/// the owner. Replaces any file or link there. Waits until they are on the disk.
pub fn replace_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_file(path, bytes, true, Readers::Owner, true)
}

fn write_file(
    path: &Path,
    bytes: &[u8],
    replace: bool,
    readers: Readers,
    sync: bool,
) -> io::Result<()> {
    let folder = Folder::named(folder_of(path));
    let (folder, path) = (
        folder.path(),
        folder.path().join(path.file_name().unwrap_or_default()),
    );
    let mut file = named(folder, readers)?;
    file.write_all(bytes)?;
    if sync {
        file.as_file().sync_all()?;
    }
    // It is held until it has its name.
    let (_held, hidden) = file.into_parts();
    if replace {
        persist_over(hidden, &path)?;
    } else {
        hidden
            .persist_noclobber(path)
            .map_err(|error| error.error)?;
    }
    if sync {
        crate::folder::sync_folder(folder);
    }
    Ok(())
}

/// A replaced file, readable only by its owner. Dropping this restores the old bytes unless they
/// were kept, so that a failing caller changes nothing. Bytes are zeroized on drop.
#[derive(Debug)]
pub struct Replaced {
    /// The file itself, with links resolved.
    path: PathBuf,
    old: Zeroizing<Vec<u8>>,
    new: Zeroizing<Vec<u8>>,
    is_kept: bool,
}

impl Replaced {
    /// Replaces the file at `path` by `bytes`, whole or not at all. A link to the file stays.
    pub fn write(path: &Path, bytes: &[u8]) -> io::Result<Replaced> {
        let path = path.canonicalize()?;
        let old = fs::read(&path)?.into();
        write_whole(&path, bytes, true, Readers::Owner)?;
        Ok(Replaced {
            path,
            old,
            new: bytes.to_vec().into(),
            is_kept: false,
        })
    }

    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // Another process may have written to the file since.
        let is_ours = || fs::read(&self.path).is_ok_and(|bytes| bytes == *self.new);
        if !self.is_kept && is_ours() {
            let _ = write_whole(&self.path, &self.old, true, Readers::Owner);
        }
    }
}

/// Makes a new hidden file in `folder`, and locks it.
pub fn named(folder: &Path, readers: Readers) -> io::Result<NamedTempFile> {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut builder = builder();
    #[cfg(unix)]
    if readers == Readers::Usual {
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    }
    let _ = readers;
    sweep(folder);
    for _ in 0..ATTEMPTS {
        let file = builder.tempfile_in(folder)?;
        hold(file.as_file());
        // Another process may have removed it before it was locked.
        if is_at(file.as_file(), file.path()) {
            #[cfg(windows)]
            if readers == Readers::Owner {
                crate::windows::restrict_to_user(file.path())?;
            }
            return Ok(file);
        }
    }
    Err(io::Error::other("somebody removes new files"))
}

/// Gives a hidden file the name `to`, also in place of a file there, which may be open.
pub(crate) fn persist_over(hidden: TempPath, to: &Path) -> io::Result<()> {
    #[cfg(windows)]
    return crate::windows::persist_over(&hidden, to);
    #[cfg(not(windows))]
    hidden.persist(to).map_err(|error| error.error)
}

pub fn builder() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).rand_bytes(N_RANDOM);
    builder
}

/// Marks the file as being written while it is open. On file systems without locks, no process
/// removes anything.
pub fn hold(file: &File) {
    // A process that inspects it locks it briefly.
    let _ = crate::file_id::lock(file);
}

/// Removes the files that killed processes left in `folder`. Runs once per process, because folders
/// may be large.
pub fn sweep(folder: &Path) {
    static SWEPT: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let Ok(folder) = folder.canonicalize() else {
        return;
    };
    if !lock(&SWEPT).get_or_insert_default().insert(folder.clone()) {
        return;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_unfinished(&entry.file_name())) {
        remove_unheld(&entry.path());
    }
}

/// Removes an unfinished file that no living process locks. In doubt, it stays.
fn remove_unheld(path: &Path) {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return;
    }
    // Some network file systems lock only files open for writing.
    let Ok(file) = File::options().read(true).write(true).open(path) else {
        return;
    };
    if try_lock(&file).is_ok() && is_at(&file, path) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_told_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = named(dir.path(), Readers::Owner).unwrap();
        assert!(is_unfinished(file.path().file_name().unwrap()));
        let others = [
            ".onnxseal",
            ".onnxseal-abc12",
            ".onnxseal-abc1234",
            ".onnxseal-abc-12",
            "onnxseal-abc123",
            ".onnxseal-journal",
        ];
        for name in others {
            assert!(!is_unfinished(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn what_nobody_holds_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let held = named(dir.path(), Readers::Owner).unwrap();
        for name in [".onnxseal-aaaaaa", ".onnxseal-a", "model.onnx"] {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir(path(".onnxseal-bbbbbb")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("model.onnx", path(".onnxseal-cccccc")).unwrap();
        let entries = fs::read_dir(dir.path()).unwrap();
        let unfinished: Vec<PathBuf> = (entries.map(|entry| entry.unwrap().path()))
            .filter(|path| is_unfinished(path.file_name().unwrap()))
            .collect();
        unfinished.iter().for_each(|path| remove_unheld(path));
        assert!(!path(".onnxseal-aaaaaa").exists());
        assert!(held.path().exists());
        for name in [".onnxseal-a", "model.onnx", ".onnxseal-bbbbbb"] {
            assert!(path(name).exists(), "{name}");
        }
        // Without a lock, it is abandoned.
        let left = held.into_temp_path().keep().unwrap();
        remove_unheld(&left);
        assert!(!left.exists());
    }

    #[test]
    fn paths_may_be_long() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a".repeat(200)).join("b".repeat(200));
        fs::create_dir_all(&folder).unwrap();
        for readers in [Readers::Owner, Readers::Usual] {
            let path = folder.join("\u{e9}".repeat(100));
            write_whole(&path, b"one", true, readers).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"one");
        }
    }

    #[test]
    fn whole_files_replace_others_only_if_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_whole(&path, b"one", false, Readers::Usual).unwrap();
        let error = write_whole(&path, b"two", false, Readers::Usual).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_whole(&path, b"two", true, Readers::Usual).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
