//! Files below a folder, reached without links: no part of the path below it may be one.
//!
//! Such a path may come from an untrusted source. On Unix every part of it is opened in the folder
//! before it, so that later changes of folders and links do no harm.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

use crate::regular::check_regular;

/// Opens the regular file at `relative`, a path of plain names below `folder`, for reading. Returns
/// `None` if nothing exists there. Does not block on a pipe.
///
/// # Errors
/// The system's error; also if it is not a regular file, or a part of the path is a link.
pub fn open(folder: &Path, relative: &Path) -> io::Result<Option<File>> {
    let Some(file) = open_any(folder, relative)? else {
        return Ok(None);
    };
    check_regular(&file.metadata()?)?;
    Ok(Some(file))
}

/// Opens as [`open`] does, but anything: the caller must check for a folder or a pipe.
pub(crate) fn open_any(folder: &Path, relative: &Path) -> io::Result<Option<File>> {
    there(open_at(folder, relative, false))
}

/// Opens the file for reading and writing, and makes it if nothing exists there. Its folder must
/// exist.
pub fn open_or_create(folder: &Path, relative: &Path) -> io::Result<File> {
    open_at(folder, relative, true)
}

/// Removes the file at `relative`, a path of plain names below `folder`, if it exists.
pub fn remove(folder: &Path, relative: &Path) -> io::Result<()> {
    there(remove_at(folder, relative)).map(drop)
}

/// Fails if a part of the way to `relative`, a path of plain names below `folder`, is a link or not
/// a folder. The file itself may be missing.
pub fn check_folders(folder: &Path, relative: &Path) -> io::Result<()> {
    there(check_at(folder, relative)).map(drop)
}

fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Splits `relative` into its folder and its last name.
fn split(relative: &Path) -> io::Result<(&Path, &Path)> {
    let is_plain = |name| matches!(name, Component::Normal(_));
    match (relative.parent(), relative.file_name()) {
        (Some(folder), Some(name)) if relative.components().all(is_plain) => {
            Ok((folder, Path::new(name)))
        }
        _ => Err(io::Error::other("it is no path below a folder")),
    }
}

#[cfg(unix)]
mod system {
    use std::os::fd::OwnedFd;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
    use rustix::io::Errno;

    use super::{File, Path, io, split};
    use crate::location::or_here;

    /// Opens the folder that contains `relative`.
    fn folder_of(folder: &Path, relative: &Path) -> io::Result<OwnedFd> {
        // Passing through a folder needs no right to list it on Linux.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const THROUGH: OFlags = OFlags::PATH;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const THROUGH: OFlags = OFlags::RDONLY;

        let through = THROUGH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, or_here(folder), through, Mode::empty())?;
        for name in split(relative)?.0 {
            at = openat(&at, name, through | OFlags::NOFOLLOW, Mode::empty()).map_err(in_words)?;
        }
        Ok(at)
    }

    fn in_words(error: Errno) -> io::Error {
        match error {
            Errno::LOOP | Errno::NOTDIR | Errno::MLINK => {
                io::Error::other("a link, or something else that is no folder, is on the way there")
            }
            error => error.into(),
        }
    }

    pub(super) fn open_at(folder: &Path, relative: &Path, create: bool) -> io::Result<File> {
        let (at, name) = (folder_of(folder, relative)?, split(relative)?.1);
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |more, mode| openat(&at, name, flags | more, mode);
        let opened = if create {
            open(OFlags::RDWR | OFlags::CREATE, Mode::from_raw_mode(0o666))
        } else {
            open(OFlags::RDONLY, Mode::empty())
        };
        opened.map(File::from).map_err(|error| match error {
            Errno::LOOP | Errno::MLINK => io::Error::other("it is a link"),
            error => error.into(),
        })
    }

    pub(super) fn remove_at(folder: &Path, relative: &Path) -> io::Result<()> {
        let at = folder_of(folder, relative)?;
        Ok(unlinkat(&at, split(relative)?.1, AtFlags::empty())?)
    }

    pub(super) fn check_at(folder: &Path, relative: &Path) -> io::Result<()> {
        folder_of(folder, relative).map(drop)
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs;

    use super::{File, Path, io, split};

    pub(super) fn check_at(folder: &Path, relative: &Path) -> io::Result<()> {
        let mut at = folder.to_owned();
        for name in split(relative)?.0 {
            at.push(name);
            if !fs::symlink_metadata(&at)?.is_dir() {
                let text = "a link, or something else that is no folder, is on the way there";
                return Err(io::Error::other(text));
            }
        }
        Ok(())
    }

    pub(super) fn open_at(folder: &Path, relative: &Path, create: bool) -> io::Result<File> {
        check_at(folder, relative)?;
        let path = folder.join(relative);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => return Err(io::Error::other("it is a link")),
            _ => (),
        }
        let mut options = File::options();
        options.read(true).write(create).create(create);
        options.open(path)
    }

    pub(super) fn remove_at(folder: &Path, relative: &Path) -> io::Result<()> {
        check_at(folder, relative)?;
        fs::remove_file(folder.join(relative))
    }
}

use system::{check_at, open_at, remove_at};

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
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
}
