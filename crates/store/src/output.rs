//! Files and objects that appear whole or not at all.

use std::fs::{File, Metadata};
#[cfg(any(unix, windows))]
use std::io;
use std::path::Path;

use crate::error::{Result, io as io_error};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Whom the process lets read new files (`umask`).
    Usual,
}

/// Who may do what with a new file; never more than the process's umask allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permitted {
    /// These may read it, and its owner may write it.
    To(Readers),
    /// What these bits of a mode permit, where the system has modes.
    Mode(u32),
}

impl Permitted {
    pub const OWNER: Permitted = Permitted::To(Readers::Owner);

    pub fn like(metadata: &Metadata) -> Permitted {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            Permitted::Mode(metadata.permissions().mode())
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            Permitted::To(Readers::Usual)
        }
    }
}

/// A file or an object that is being written and is still invisible.
pub trait Output: Send + Sync {
    /// Returns the file that has the bytes so far, and the path for messages; `None` if writing waits
    /// for a network rather than for a disk.
    fn file(&self) -> Option<(&Path, &File)> {
        None
    }

    /// Writes `bytes` at `offset`. Write each byte once.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file().map_or(Ok(()), |(path, file)| {
            write_all_at(file, bytes, offset).map_err(io_error("write", path))
        })
    }

    /// Reserves blocks for the first `len` bytes of a file on ext4. The caller then writes all of them.
    ///
    /// ext4 otherwise finds a place for each page as it is written. Measured for files of 512 MiB that
    /// two threads write: the kernel takes a third less time. On btrfs and in memory that makes no
    /// difference, on XFS writing takes half as long again.
    ///
    /// If this fails, the disk is full or nearly so: writing will tell.
    fn reserve(&self, len: u64) {
        #[cfg(target_os = "linux")]
        if let Some((_, file)) = self.file() {
            use rustix::fs::{FallocateFlags, fallocate, fstatfs};
            /// The number of ext4 in `statfs`.
            const EXT4: u64 = 0xEF53;
            if fstatfs(file).is_ok_and(|of| of.f_type as u64 == EXT4) {
                let _ = fallocate(file, FallocateFlags::empty(), 0, len);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = len;
    }

    /// Cuts a file to `len` bytes, if it is longer.
    fn truncate(&self, len: u64) -> Result<()> {
        self.file().map_or(Ok(()), |(path, file)| {
            file.set_len(len).map_err(io_error("write", path))
        })
    }

    /// Returns a stamp of the complete file; `None` for a stream or an object.
    fn stamp(&self) -> Result<Option<Stamp>> {
        Ok(None)
    }

    /// Sends everything written so far to the disk, if `flush` says so, or to the store.
    fn finish(&self, _flush: Flush) -> Result<()> {
        Ok(())
    }

    /// Gives a file its permissions and its name. If `options` allow, it replaces an existing file, and
    /// syncs first unless they say not to wait. On failure the name does not exist, or names the file
    /// that it named before.
    fn publish(self: Box<Self>, permitted: Permitted, options: OutputOptions) -> Result<Published>;

    /// Gives the file the owner of `like`, if permitted, and once published its permissions
    /// whatever the umask, because it replaces that file.
    fn take_place_of(&mut self, _like: &Metadata) {}
}

pub struct Published(pub(crate) Box<dyn FnOnce()>);

impl Published {
    pub fn remove(self) {
        (self.0)();
    }
}

/// Writes all of `bytes` at `offset`, without using the file's position.
#[cfg(unix)]
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

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

#[cfg(not(any(unix, windows)))]
pub use crate::seek::write_all_at;
