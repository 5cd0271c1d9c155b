//! Opens regular files only.

use std::fs::{self, File, FileType, Metadata};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Opens the regular file at `path`, also through links, for reading. It never blocks, as opening a
/// pipe would.
pub fn open_regular(path: &Path) -> Result<File> {
    // Check before opening too: opening a device may have effects, and a socket cannot be opened.
    check_regular(&fs::metadata(path)?)?;
    let file = open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Refuses anything but regular files. The error names the kind.
pub(crate) fn check_regular(metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let kind = match metadata.is_dir() {
        true => ErrorKind::IsADirectory,
        false => ErrorKind::Other,
    };
    let what = what(metadata.file_type());
    let text = format!("it is {what}, not a regular file");
    Err(Error::new(kind, text))
}

fn open(path: &Path) -> Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    }
    options.read(true).open(path)
}

fn what(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return "a pipe";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() {
        "a folder"
    } else {
        "something else"
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::write(at("file"), "bytes").unwrap();
        symlink("pipe", at("to-pipe")).unwrap();
        symlink("file", at("to-file")).unwrap();
        for (path, what) in [
            (at("pipe"), "a pipe"),
            (at("to-pipe"), "a pipe"),
            (at("socket"), "a socket"),
            ("/dev/zero".into(), "a device"),
            (dir.path().into(), "a folder"),
        ] {
            let error = open_regular(&path).unwrap_err().to_string();
            assert_eq!(error, format!("it is {what}, not a regular file"));
        }
        for name in ["file", "to-file"] {
            let mut text = String::new();
            open_regular(&at(name))
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "bytes");
        }
        let error = open_regular(&at("absent")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    /// A pipe may appear between the check of a path and its opening.
    #[test]
    fn a_pipe_put_in_meanwhile_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let opened = open(&pipe).unwrap();
        assert!(check_regular(&opened.metadata().unwrap()).is_err());
    }
}
