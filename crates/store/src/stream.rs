//! Outputs to streams: standard output, pipes and devices take bytes in order.
//!
//! Bytes sent to a stream cannot be taken back, so they are gathered in memory and sent once all of
//! them are right.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, OutputFault, Result, io as io_error};
use crate::location::Location;
use crate::output::{Output, OutputOptions, Permitted, Published};
use crate::regular::open_regular;

/// The path that stands for standard output on every system.
pub const STANDARD_OUTPUT: &str = "/dev/stdout";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    Nothing,
    /// A regular file, which the output may replace.
    File,
    /// Standard output, a pipe or a character device.
    Stream,
}

impl There {
    pub fn at(path: &Path) -> Result<There> {
        let is_stream = || fs::metadata(path).is_ok_and(|metadata| is_stream(&metadata));
        if is_standard_output(path) || is_stream() {
            return Ok(There::Stream);
        }
        match fs::symlink_metadata(path) {
            // If this fails, writing will fail and say why.
            Err(_) => Ok(There::Nothing),
            Ok(metadata) if metadata.is_file() => Ok(There::File),
            Ok(metadata) => {
                let fault = match (metadata.is_symlink(), metadata.is_dir()) {
                    (true, _) => OutputFault::Link,
                    (_, true) => OutputFault::Folder,
                    _ => OutputFault::Other,
                };
                let path = path.to_owned();
                Err(Error::NoOutput { path, fault })
            }
        }
    }
}

/// Fails if `location` is a stream, which cannot take several files, such as external data or the
/// record of a batch.
pub fn check_no_stream(location: &Location) -> Result<()> {
    match location {
        Location::File(path) if There::at(path)? == There::Stream => Err(Error::NoOutput {
            path: path.clone(),
            fault: OutputFault::Several,
        }),
        _ => Ok(()),
    }
}

/// Opens the file or stream `path` that a user hands over. It waits for a pipe, such as the shell's
/// `<(...)`. Callers must limit how much they read.
pub fn open_handed_over(path: &Path) -> io::Result<File> {
    if is_stream(&fs::metadata(path)?) {
        File::open(path)
    } else {
        open_regular(path)
    }
}

pub fn is_standard_output(path: &Path) -> bool {
    let names = [STANDARD_OUTPUT, "/dev/fd/1", "/proc/self/fd/1"];
    names.into_iter().any(|name| path == Path::new(name))
}

fn is_stream(metadata: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        metadata.file_type().is_fifo() || metadata.file_type().is_char_device()
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

pub(crate) struct Stream {
    path: PathBuf,
    to: File,
    /// The bytes: in memory on Linux, elsewhere in an unnamed file.
    held: File,
}

impl Stream {
    /// Opens the stream at `path`. Opening a pipe waits for a reader.
    pub(crate) fn create(path: &Path, force: bool) -> Result<Stream> {
        let to = open(path).map_err(io_error("open", path))?;
        let path = path.to_owned();
        if !force && to.is_terminal() {
            let fault = OutputFault::Terminal;
            return Err(Error::NoOutput { path, fault });
        }
        let held = hold().map_err(io_error("find memory for", &path))?;
        Ok(Stream { path, to, held })
    }
}

impl Output for Stream {
    fn file(&self) -> Option<(&Path, &File)> {
        Some((&self.path, &self.held))
    }

    fn publish(mut self: Box<Self>, _: Permitted, _: OutputOptions) -> Result<Published> {
        let Stream { path, to, held } = &mut *self;
        let written = held.rewind().and_then(|()| io::copy(held, to));
        written.map_err(io_error("write", path))?;
        // Bytes that cannot be taken back.
        Ok(Published(Box::new(|| ())))
    }
}

pub(crate) fn write(path: &Path, bytes: &[u8], force: bool) -> io::Result<()> {
    let mut to = open(path)?;
    if !force && to.is_terminal() && std::str::from_utf8(bytes).is_err() {
        return Err(io::Error::other(format!("it {}", OutputFault::Terminal)));
    }
    to.write_all(bytes)
}

/// Opens a stream, without creating or truncating it.
fn open(path: &Path) -> io::Result<File> {
    if is_standard_output(path) {
        return standard_output();
    }
    let file = File::options().write(true).open(path)?;
    // A file may have appeared there meanwhile.
    if is_stream(&file.metadata()?) {
        Ok(file)
    } else {
        Err(io::Error::other("it was replaced by a file meanwhile"))
    }
}

fn standard_output() -> io::Result<File> {
    #[cfg(unix)]
    let owned = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned();
    #[cfg(windows)]
    let owned = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned();
    // WASI has descriptors, but cannot copy them.
    #[cfg(not(any(unix, windows)))]
    let owned: io::Result<File> = Err(io::ErrorKind::Unsupported.into());
    owned.map(File::from)
}

fn hold() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{MemfdFlags, memfd_create};
        let held = memfd_create("onnxseal-output", MemfdFlags::CLOEXEC);
        Ok(held.map(File::from)?)
    }
    #[cfg(not(target_os = "linux"))]
    tempfile::tempfile()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_files_are_replaced_and_only_streams_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for (link, to) in [
            ("to-file", "file"),
            ("dangling", "none"),
            ("to-pipe", "pipe"),
        ] {
            symlink(to, at(link)).unwrap();
        }
        for (path, there) in [
            (at("none"), There::Nothing),
            (at("file"), There::File),
            (at("pipe"), There::Stream),
            (at("to-pipe"), There::Stream),
            ("/dev/null".into(), There::Stream),
            (STANDARD_OUTPUT.into(), There::Stream),
        ] {
            assert_eq!(There::at(&path).unwrap(), there, "{}", path.display());
        }
        for (path, expected) in [
            (at("to-file"), OutputFault::Link),
            (at("dangling"), OutputFault::Link),
            (at("socket"), OutputFault::Other),
            (dir.path().into(), OutputFault::Folder),
        ] {
            let found = There::at(&path);
            assert!(
                matches!(&found, Err(Error::NoOutput { fault, .. }) if *fault == expected),
                "{found:?}"
            );
        }
    }
}
