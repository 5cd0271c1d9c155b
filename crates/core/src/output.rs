//! Files that appear whole or not at all.

use std::fs::{self, File, Permissions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io as io_error};
use crate::input::Input;
use crate::outputs::OutputOptions;
use crate::protected::folder_of;

/// A file that is being written and has no name yet.
///
/// On Linux it is an unnamed file (`O_TMPFILE`), so that nothing is left behind however the process
/// ends, but for the moment in which it takes the place of another file: it then has a hidden name,
/// whole, before it is renamed. Where the system or the file system has no unnamed files, a hidden
/// file beside the output that is removed on failure.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    folder: PathBuf,
    draft: Draft,
    /// Whether the file shares the bytes of its input (a reflink), so that only what differs needs
    /// to be written.
    cloned: bool,
    made: MadeFolders,
}

#[derive(Debug)]
enum Draft {
    #[cfg(target_os = "linux")]
    Unnamed(File),
    Named(tempfile::NamedTempFile),
}

impl Output {
    /// Begins the file that will stand at `path`, in place of `input` and with its permissions.
    ///
    /// # Errors
    /// [`Error::OutputExists`] unless `replace`.
    pub(crate) fn create(path: &Path, input: &Input, replace: bool) -> Result<Output> {
        if !replace && fs::symlink_metadata(path).is_ok() {
            let path = path.to_owned();
            return Err(Error::OutputExists { path });
        }
        let folder = folder_of(path).to_owned();
        let made = MadeFolders::make(&folder).map_err(io_error("create folder", &folder))?;
        let draft = Draft::create(&folder).map_err(io_error("create a file in", &folder))?;
        let mut output = Output {
            path: path.to_owned(),
            folder,
            draft,
            cloned: false,
            made,
        };
        let permissions = writable_by_us(input.permissions()?);
        output
            .file()
            .set_permissions(permissions)
            .map_err(io_error("create", path))?;
        output.cloned = reflink(output.file(), &input.file);
        Ok(output)
    }

    fn file(&self) -> &File {
        match &self.draft {
            #[cfg(target_os = "linux")]
            Draft::Unnamed(file) => file,
            Draft::Named(file) => file.as_file(),
        }
    }

    /// Writes the chunk `bytes` at `offset`, which differs from the input's in `changed` alone.
    pub(crate) fn write_chunk(
        &self,
        bytes: &[u8],
        offset: u64,
        changed: &[Range<usize>],
    ) -> Result<()> {
        if !self.cloned {
            return self.write_all_at(bytes, offset);
        }
        blocks(changed, bytes.len()).try_for_each(|block| {
            let start = offset + block.start as u64;
            self.write_all_at(bytes.get(block).unwrap_or_default(), start)
        })
    }

    /// Writes `bytes` at `offset`.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        write_all_at(self.file(), bytes, offset).map_err(io_error("write", &self.path))
    }

    /// Cuts off what a longer input left behind `len` bytes.
    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        self.file()
            .set_len(len)
            .map_err(io_error("write", &self.path))
    }

    /// Puts everything written so far on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file()
            .sync_all()
            .map_err(io_error("write", &self.path))
    }

    /// Gives the file its name, replacing what stands there if `options` say so.
    pub(crate) fn publish(self, options: OutputOptions) -> Result<()> {
        let OutputOptions { replace, sync } = options;
        let Output {
            path,
            folder,
            draft,
            made,
            ..
        } = self;
        let published = match draft {
            #[cfg(target_os = "linux")]
            Draft::Unnamed(file) => link(&file, &folder, &path, replace),
            Draft::Named(file) if replace => file.persist(&path).map(drop).map_err(|e| e.error),
            Draft::Named(file) => file.persist_noclobber(&path).map(drop).map_err(|e| e.error),
        };
        published.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::OutputExists { path: path.clone() },
            _ => io_error("create", &path)(error),
        })?;
        if sync && let Err(error) = sync_folder(&folder) {
            // What was replaced cannot be brought back; the new file is whole.
            if !replace {
                let _ = fs::remove_file(&path);
            }
            return Err(io_error("write", &folder)(error));
        }
        made.keep();
        Ok(())
    }
}

/// Folders made for an output, the innermost first; dropped, they are gone if they are empty.
#[derive(Debug)]
struct MadeFolders(Vec<PathBuf>);

impl MadeFolders {
    fn make(folder: &Path) -> io::Result<MadeFolders> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = folder.ancestors().take_while(missing);
        let made = MadeFolders(made.map(Path::to_owned).collect());
        fs::create_dir_all(folder)?;
        Ok(made)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Draft {
    #[cfg(target_os = "linux")]
    fn create(folder: &Path) -> io::Result<Draft> {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Draft::Unnamed(File::from(file))),
            // Every other answer (not supported, is a directory, ...) the named file repeats.
            Err(_) => Draft::named(folder),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn create(folder: &Path) -> io::Result<Draft> {
        Draft::named(folder)
    }

    fn named(folder: &Path) -> io::Result<Draft> {
        let file = tempfile::Builder::new()
            .prefix(".onnxseal-")
            .tempfile_in(folder)?;
        Ok(Draft::Named(file))
    }
}

/// The file system's blocks that hold the ranges `changed`, as ranges of a chunk of `len` bytes: a
/// clone keeps the others, and none has to be read in order to be written in part.
fn blocks(changed: &[Range<usize>], len: usize) -> impl Iterator<Item = Range<usize>> {
    const BLOCK_BYTES: usize = 4096;
    let floor = |offset: usize| offset / BLOCK_BYTES * BLOCK_BYTES;
    let mut rest = changed.iter().peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let mut end = first.end.next_multiple_of(BLOCK_BYTES);
        while let Some(next) = rest.next_if(|next| floor(next.start) <= end) {
            end = end.max(next.end.next_multiple_of(BLOCK_BYTES));
        }
        Some(floor(first.start)..end.min(len))
    })
}

/// Names an unnamed file.
#[cfg(target_os = "linux")]
fn link(file: &File, folder: &Path, path: &Path, replace: bool) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |to: &Path| linkat(CWD, &unnamed, CWD, to, AtFlags::SYMLINK_FOLLOW);
    match link(path) {
        Err(rustix::io::Errno::EXIST) if replace => {
            // A name cannot be linked over another, only renamed.
            let between = tempfile::Builder::new()
                .prefix(".onnxseal-")
                .make_in(folder, |to| link(to).map_err(io::Error::from))?;
            between.persist(path).map_err(|error| error.error)
        }
        linked => linked.map_err(io::Error::from),
    }
}

#[cfg(target_os = "linux")]
fn reflink(to: &File, from: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn reflink(_to: &File, _from: &File) -> bool {
    false
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let n = file.seek_write(bytes, offset)?;
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

/// A renamed or linked file survives a power loss only once its folder is on the disk.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

/// A read-only input gives a read-only output only on systems where an open file can still be
/// written; elsewhere the output stays writable.
fn writable_by_us(permissions: Permissions) -> Permissions {
    #[cfg(windows)]
    {
        let mut permissions = permissions;
        #[allow(clippy::permissions_set_readonly_false)]
        permissions.set_readonly(false);
        permissions
    }
    #[cfg(not(windows))]
    permissions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_what_changed_in_whole_blocks() {
        let found: Vec<_> = blocks(&[5..6, 4095..4097, 9000..9001, 20000..20001], 20100).collect();
        assert_eq!(found, [0..12288, 16384..20100]);
    }
}
