//! Files below a folder, reached through no link: no part of the path below it may be one.
//!
//! Such a path may come from an untrusted source. On Unix every part of it is opened in the folder
//! before it, so that later changes of folders and links do no harm. Elsewhere each part is checked
//! before use.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
#[cfg(unix)]
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

#[cfg(unix)]
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
#[cfg(unix)]
use rustix::io::Errno;

use crate::location::folder_of;
use crate::regular::check_regular;

/// A folder that the user named, or one that is reached from it through no link.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The open folder, unless the user named it.
    #[cfg(unix)]
    open: Option<OwnedFd>,
}

/// Opens the regular file at `relative`, a path of plain names below `folder`, for reading. Returns
/// `None` if nothing exists there. Does not block on a pipe.
pub fn open(folder: &Path, relative: &Path) -> io::Result<Option<File>> {
    let Some(file) = there(open_any(folder, relative))? else {
        return Ok(None);
    };
    check_regular(&file.metadata()?)?;
    Ok(Some(file))
}

/// Opens anything but a link: the caller must check for a folder or a pipe.
pub(crate) fn open_any(folder: &Path, relative: &Path) -> io::Result<File> {
    let (folder, name) = walk(folder, relative)?;
    folder.open(name, false)
}

/// Opens anything but a link at `path`, to whose folder links may lead.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let name = Path::new(path.file_name().unwrap_or_default());
    open_any(folder_of(path), name)
}

/// Opens the file for reading and writing, and makes it if nothing exists there. Its folder must
/// exist.
pub fn open_or_create(folder: &Path, relative: &Path) -> io::Result<File> {
    let (folder, name) = walk(folder, relative)?;
    folder.open(name, true)
}

pub fn remove(folder: &Path, relative: &Path) -> io::Result<()> {
    let removed = walk(folder, relative).and_then(|(folder, name)| folder.remove(name));
    there(removed).map(drop)
}

/// Fails if a part of the way to `relative` is a link or not a folder. The file itself may be
/// missing.
pub fn check_folders(folder: &Path, relative: &Path) -> io::Result<()> {
    let above = walk(folder, relative).and_then(|(above, _)| fs::metadata(above.path()));
    match there(above)? {
        Some(metadata) if !metadata.is_dir() => Err(not_a_folder()),
        _ => Ok(()),
    }
}

pub(crate) fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn walk<'p>(folder: &Path, relative: &'p Path) -> io::Result<(Folder, &'p OsStr)> {
    let is_plain = |part| matches!(part, Component::Normal(_));
    match (relative.parent(), relative.file_name()) {
        (Some(above), Some(name)) if relative.components().all(is_plain) => {
            let folder = above
                .iter()
                .try_fold(Folder::named(folder), Folder::enter)?;
            Ok((folder, name))
        }
        _ => Err(io::Error::other("it is no path below a folder")),
    }
}

fn not_a_folder() -> io::Error {
    let text = "a link, or something else that is no folder, is on the way there";
    io::Error::new(ErrorKind::NotADirectory, text)
}

fn is_a_link() -> io::Error {
    io::Error::other("it is a link")
}

impl Folder {
    /// Takes the folder at `path`, which links may lead to.
    pub(crate) fn named(path: &Path) -> Folder {
        // Calls that the standard library does not make for us take long paths only in this form.
        #[cfg(windows)]
        let path = &*path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Folder {
            path: path.to_owned(),
            #[cfg(unix)]
            open: None,
        }
    }

    /// Returns the path that reaches it while this lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
impl Folder {
    pub(crate) fn enter(self, name: &OsStr) -> io::Result<Folder> {
        // Passing through a folder needs no right to list it on Linux.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const THROUGH: OFlags = OFlags::PATH;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const THROUGH: OFlags = OFlags::RDONLY;

        let opened = self.open_at(name, THROUGH | OFlags::DIRECTORY, Mode::empty());
        let open = opened.map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR | Errno::MLINK => not_a_folder(),
            error => error.into(),
        })?;
        // Through the open descriptor, the system looks up only what comes after it.
        #[cfg(target_os = "linux")]
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open)).into();
        #[cfg(not(target_os = "linux"))]
        let path = self.path.join(name);
        let open = Some(open);
        Ok(Folder { path, open })
    }

    fn open(&self, name: &OsStr, create: bool) -> io::Result<File> {
        let opened = if create {
            let flags = OFlags::NONBLOCK | OFlags::RDWR | OFlags::CREATE;
            self.open_at(name, flags, Mode::from_raw_mode(0o666))
        } else {
            self.open_at(name, OFlags::NONBLOCK | OFlags::RDONLY, Mode::empty())
        };
        opened.map(File::from).map_err(|error| match error {
            Errno::LOOP | Errno::MLINK => is_a_link(),
            error => error.into(),
        })
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        let (at, name) = self.at(name);
        Ok(unlinkat(at, name, AtFlags::empty())?)
    }

    fn open_at(&self, name: &OsStr, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let (at, name) = self.at(name);
        openat(at, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)
    }

    fn at(&self, name: &OsStr) -> (BorrowedFd<'_>, PathBuf) {
        match &self.open {
            Some(open) => (open.as_fd(), name.into()),
            None => (CWD, self.path.join(name)),
        }
    }
}

#[cfg(not(unix))]
impl Folder {
    pub(crate) fn enter(self, name: &OsStr) -> io::Result<Folder> {
        let path = self.path.join(name);
        match std::fs::symlink_metadata(&path)?.is_dir() {
            true => Ok(Folder { path }),
            false => Err(not_a_folder()),
        }
    }

    fn open(&self, name: &OsStr, create: bool) -> io::Result<File> {
        let path = self.path.join(name);
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(is_a_link());
        }
        let mut options = File::options();
        options.read(true).write(create).create(create).open(path)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_reached_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        for folder in [&inside.join("a"), &outside] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("file"), "content").unwrap();
        }
        symlink(&outside, inside.join("link")).unwrap();
        symlink("../a/file", inside.join("a/to-file")).unwrap();
        let path = Path::new;
        let file = outside.join("file");
        assert!(check_folders(&file, path("x")).is_err());
        assert!(open(&inside, path("a/file")).unwrap().is_some());
        for absent in ["b", "a/b", "b/c"] {
            assert!(open(&inside, path(absent)).unwrap().is_none());
            check_folders(&inside, path(absent)).unwrap();
            remove(&inside, path(absent)).unwrap();
        }
        for bad in [
            "link/file",
            "link/none",
            "a/file/x",
            "a/../a/file",
            "/a",
            "",
        ] {
            assert!(open(&inside, path(bad)).is_err(), "{bad}");
            assert!(check_folders(&inside, path(bad)).is_err(), "{bad}");
            assert!(remove(&inside, path(bad)).is_err(), "{bad}");
            assert!(open_or_create(&inside, path(bad)).is_err(), "{bad}");
        }
        for bad in ["link", "a/to-file", "a"] {
            assert!(open(&inside, path(bad)).is_err(), "{bad}");
        }
        assert!(open_or_create(&inside, path("a/to-file")).is_err());
        assert!(outside.join("file").exists());
        // This removes a link rather than its target.
        remove(&inside, path("a/to-file")).unwrap();
        remove(&inside, path("a/file")).unwrap();
        assert!(open(&inside, path("a/file")).unwrap().is_none());
    }

    /// Files and links that change after a path was found to be canonical, and before it is opened.
    #[test]
    fn links_put_in_meanwhile_are_not_followed() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/w.bin"), b"weights").unwrap();
        let mut found = String::new();
        let open = |inner: &str| open_any(&folder, Path::new(inner));
        open("a/b/w.bin")
            .unwrap()
            .read_to_string(&mut found)
            .unwrap();
        assert_eq!(found, "weights");

        symlink("b/w.bin", folder.join("a/link.bin")).unwrap();
        symlink("a", folder.join("c")).unwrap();
        symlink(folder.join("a/b"), folder.join("a/d")).unwrap();
        for inner in ["a/link.bin", "c/b/w.bin", "a/d/w.bin"] {
            assert!(open(inner).is_err(), "{inner}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pipes_put_in_meanwhile_do_not_block() {
        use rustix::fs::{FileType, mknodat};

        let dir = tempfile::TempDir::new().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let opened = open_any(dir.path(), Path::new("pipe")).unwrap();
        assert!(!opened.metadata().unwrap().is_file());
    }
}
