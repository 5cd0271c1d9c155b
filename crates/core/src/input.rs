//! The files of a model, opened for reading.

use std::fs::File;
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
    modified: Option<SystemTime>,
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Input> {
        let file = File::open(path).map_err(io("open", path))?;
        let metadata = file.metadata().map_err(io("read", path))?;
        if !metadata.is_file() {
            let not_a_file = std::io::Error::other("not a regular file");
            return Err(io("read", path)(not_a_file));
        }
        let modified = metadata.modified().ok();
        Ok(Input {
            path: path.to_owned(),
            file,
            len: metadata.len(),
            modified,
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
        let metadata = self.file.metadata().map_err(io("read", &self.path))?;
        if metadata.len() != self.len || metadata.modified().ok() != self.modified {
            return Err(Error::InputChanged {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    /// The file's permissions, for its output to take over.
    pub(crate) fn permissions(&self) -> Result<std::fs::Permissions> {
        let metadata = self.file.metadata().map_err(io("read", &self.path))?;
        Ok(metadata.permissions())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
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
