//! Which file a path or an open file is, and locks on files.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Tells a file from all others that exist: its number on its device (Unix) or volume (Windows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    number: u128,
}

impl FileId {
    pub fn of(file: &File) -> io::Result<FileId> {
        #[cfg(unix)]
        return file
            .metadata()
            .map(|metadata| FileId::in_metadata(&metadata));
        #[cfg(windows)]
        return crate::windows::file_id(file).map(|(device, number)| FileId { device, number });
        // Systems without processes beside this one.
        #[cfg(not(any(unix, windows)))]
        file.metadata().map(|_| FileId {
            device: 0,
            number: 0,
        })
    }

    /// Returns the file at `path`, which may be a link.
    pub fn at(path: &Path) -> io::Result<FileId> {
        #[cfg(windows)]
        return FileId::of(&crate::windows::open_link(path)?);
        #[cfg(unix)]
        return path
            .symlink_metadata()
            .map(|metadata| FileId::in_metadata(&metadata));
        #[cfg(not(any(unix, windows)))]
        FileId::of(&File::open(path)?)
    }

    #[cfg(unix)]
    fn in_metadata(metadata: &std::fs::Metadata) -> FileId {
        use std::os::unix::fs::MetadataExt as _;
        FileId {
            device: metadata.dev(),
            number: metadata.ino().into(),
        }
    }
}

/// Returns whether the open `file` is still the one at `path`.
pub fn is_at(file: &File, path: &Path) -> bool {
    FileId::of(file).is_ok_and(|ours| FileId::at(path).is_ok_and(|there| ours == there))
}

/// Returns whether both paths lead to one regular file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    let id = |path: &Path| {
        let metadata = path.metadata().ok()?;
        metadata.is_file().then(|| FileId::in_metadata(&metadata))
    };
    #[cfg(not(unix))]
    let id = |path: &Path| FileId::of(&crate::regular::open_regular(path).ok()?).ok();
    id(one).is_some_and(|one| Some(one) == id(other))
}

/// Locks the file while it is open, against others that lock it; waits for these. Whoever locks
/// nothing may read and write it.
pub fn lock(file: &File) -> io::Result<()> {
    #[cfg(not(windows))]
    return file.lock();
    #[cfg(windows)]
    crate::windows::lock(file, true)
}

/// Locks the file as `lock` does, unless somebody else does.
pub fn try_lock(file: &File) -> Result<(), TryLockError> {
    #[cfg(not(windows))]
    return file.try_lock();
    #[cfg(windows)]
    crate::windows::lock(file, false).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => TryLockError::WouldBlock,
        _ => TryLockError::Error(error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn files_are_told_apart_and_known_by_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "a").unwrap();
        fs::write(at("b"), "b").unwrap();
        fs::hard_link(at("a"), at("c")).unwrap();
        let file = File::open(at("a")).unwrap();
        assert!(is_at(&file, &at("a")) && is_at(&file, &at("c")));
        assert!(!is_at(&file, &at("b")) && !is_at(&file, &at("none")));
        assert!(is_same_file(&at("a"), &at("c")));
        assert!(!is_same_file(&at("a"), &at("b")) && !is_same_file(dir.path(), dir.path()));
        // An open file can be moved away, and another be put there.
        fs::rename(at("a"), at("d")).unwrap();
        fs::rename(at("b"), at("a")).unwrap();
        assert!(!is_at(&file, &at("a")) && is_at(&file, &at("c")));
        assert!(!is_same_file(&at("a"), &at("c")));
    }

    #[test]
    fn a_lock_keeps_other_locks_out_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut held = File::create_new(&path).unwrap();
        lock(&held).unwrap();
        let mut other = File::options().read(true).write(true).open(&path).unwrap();
        assert!(matches!(try_lock(&other), Err(TryLockError::WouldBlock)));
        held.write_all(b"one").unwrap();
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        other.write_all(b"two").unwrap();
        assert_eq!(
            (&*text, &*fs::read(&path).unwrap()),
            ("one", &b"onetwo"[..])
        );
        drop(held);
        try_lock(&other).unwrap();
    }
}
