//! Files and objects that appear whole or not at all.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use crate::error::{Result, io as io_error};
use crate::permitted::Permitted;
use crate::stamp::Stamp;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputOptions {
    /// Whether an existing file may be replaced; never several at once.
    pub replace: bool,
    /// Whether to wait until the output is on the disk before it gets its name.
    pub flush: Flush,
}

/// Whether a call waits until its result is on the disk. Object stores ignore this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    ToDisk,
    /// Waits if it replaces a file or changes one in place: after a power loss, either the old file
    /// or the new one exists, whole. Does not wait for a new file, which takes about half the time.
    /// A power loss within the next minute or so may leave the new file incomplete, empty or
    /// missing; its source still exists.
    #[default]
    Replacing,
    /// Does not wait. A power loss soon after may leave a new file incomplete, and lose both the
    /// old file and the new one that replaced it.
    Later,
}

/// A file or an object that is being written and is still invisible.
pub struct Output(Box<dyn Sink>);

/// Where the bytes of an output go.
pub(crate) trait Sink: Send + Sync {
    /// Returns the output's path, and the file that has the bytes so far.
    fn file(&self) -> Option<(&Path, &File)> {
        None
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let Some((path, file)) = self.file() else {
            return Ok(());
        };
        write_all_at(file, bytes, offset).map_err(io_error("write", path))
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        Ok(None)
    }

    fn finish(&self, _flush: Flush) -> Result<()> {
        Ok(())
    }

    fn publish(self: Box<Self>, permitted: Permitted, options: OutputOptions) -> Result<Published>;

    fn take_place_of(&mut self, _like: &Metadata) {}
}

pub struct Published(Box<dyn FnOnce()>);

impl Output {
    pub(crate) fn new(sink: impl Sink + 'static) -> Output {
        Output(Box::new(sink))
    }

    pub fn file(&self) -> Option<&File> {
        self.0.file().map(|(_, file)| file)
    }

    /// Returns whether writing waits for a network rather than for a disk.
    pub fn is_remote(&self) -> bool {
        self.0.file().is_none()
    }

    /// Writes `bytes` at `offset`. Write each byte once.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    /// Cuts a file to `len` bytes, if it is longer.
    pub fn truncate(&self, len: u64) -> Result<()> {
        self.0.file().map_or(Ok(()), |(path, file)| {
            file.set_len(len).map_err(io_error("write", path))
        })
    }

    /// Returns a stamp of the complete file; `None` for a stream or an object.
    pub fn stamp(&self) -> Result<Option<Stamp>> {
        self.0.stamp()
    }

    /// Sends everything written so far to the disk, if `flush` says so, or to the store.
    pub fn finish(&self, flush: Flush) -> Result<()> {
        self.0.finish(flush)
    }

    /// Gives a file its permissions and its name. If `options` allow, it replaces an existing file, and
    /// syncs first unless they say not to wait. On failure the name does not exist, or names the file
    /// that it named before.
    pub fn publish(self, permitted: Permitted, options: OutputOptions) -> Result<Published> {
        self.0.publish(permitted, options)
    }

    /// Gives the file the owner of `like`, if permitted, and once published its permissions
    /// whatever the umask, because it replaces that file.
    pub fn take_place_of(&mut self, like: &Metadata) {
        self.0.take_place_of(like);
    }
}

opaque!(Output);

impl Published {
    pub(crate) fn new(remove: impl FnOnce() + 'static) -> Published {
        Published(Box::new(remove))
    }

    pub fn remove(self) {
        (self.0)();
    }
}

/// Writes all of `bytes` at `offset`, without using the file's position.
#[cfg(unix)]
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` at `offset`, without using the file's position.
#[cfg(windows)]
pub fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}
