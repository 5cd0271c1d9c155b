//! The files of a model, opened for reading.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result, io};
use crate::map::Map;

/// One file of a model, open for reading.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Length in bytes when it was opened.
    pub(crate) len: u64,
    stamp: Stamp,
}

/// What changes when somebody writes to a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    /// Change time in seconds and nanoseconds, which nobody can set back; 0 where there is none.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt;
            (metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let changed = (0, 0);
        let modified = metadata.modified().ok();
        Stamp { modified, changed }
    }
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Input> {
        // Asked first as well: opening a pipe would wait for its other end.
        check_regular(path, &fs::metadata(path).map_err(io("open", path))?)?;
        let file = File::open(path).map_err(io("open", path))?;
        Input::of(path, file)
    }

    /// The file that was opened from `path`.
    pub(crate) fn of(path: &Path, file: File) -> Result<Input> {
        let metadata = file.metadata().map_err(io("read", path))?;
        check_regular(path, &metadata)?;
        let (len, stamp) = (metadata.len(), Stamp::of(&metadata));
        let path = path.to_owned();
        Ok(Input {
            path,
            file,
            len,
            stamp,
        })
    }

    /// Maps the file into memory.
    pub(crate) fn map(&self) -> Result<Map> {
        Map::of(&self.file, self.len).map_err(io("map", &self.path))
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        read_exact_at(&self.file, buffer, offset).map_err(io("read", &self.path))
    }

    /// Fails if the file was written to since it was opened.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let metadata = self.metadata()?;
        match metadata.len() == self.len && Stamp::of(&metadata) == self.stamp {
            true => Ok(()),
            false => self.changed(),
        }
    }

    /// Fails if another file has taken the place of this one.
    #[cfg(feature = "protect")]
    pub(crate) fn check_in_place(&self) -> Result<()> {
        let (ours, there) = (self.metadata()?, fs::symlink_metadata(&self.path));
        match there {
            Ok(there) if is_same(&ours, &there) => Ok(()),
            _ => self.changed(),
        }
    }

    /// The file's metadata as of now.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map_err(io("read", &self.path))
    }

    fn changed(&self) -> Result<()> {
        let path = self.path.clone();
        Err(Error::InputChanged { path })
    }
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(io("read", path)(std::io::Error::other(
            "not a regular file",
        ))),
    }
}

#[cfg(all(unix, feature = "protect"))]
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Elsewhere an open file cannot be replaced.
#[cfg(all(not(unix), feature = "protect"))]
fn is_same(_a: &Metadata, _b: &Metadata) -> bool {
    true
}

#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
pub(crate) fn read_exact_at(
    file: &File,
    mut buffer: &mut [u8],
    mut offset: u64,
) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(all(test, unix, feature = "protect"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_is_replaced_or_written_to_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("model"), dir.path().join("other"));
        fs::write(&path, "old").unwrap();
        fs::write(&other, "new").unwrap();
        let input = Input::open(&path).unwrap();
        input.check_in_place().unwrap();
        input.check_unchanged().unwrap();

        fs::rename(&other, &path).unwrap();
        assert!(matches!(
            input.check_in_place(),
            Err(Error::InputChanged { .. })
        ));
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            input.check_in_place(),
            Err(Error::InputChanged { .. })
        ));
    }

    #[test]
    fn a_time_that_is_set_back_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        fs::write(&path, "old").unwrap();
        let input = Input::open(&path).unwrap();
        let modified = input.metadata().unwrap().modified().unwrap();
        // File systems count time in ticks of the clock.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "new").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        assert!(matches!(
            input.check_unchanged(),
            Err(Error::InputChanged { .. })
        ));
    }
}
