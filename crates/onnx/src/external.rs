//! External data: the files beside the model that hold weights.
//!
//! `TensorProto.external_data` is pairs of strings: `location`, a path relative to the model's
//! folder, and in bytes `offset` (0 where absent) and `length` (what shape and type say).
//!
//! Source: <https://onnx.ai/onnx/repo-docs/ExternalData.html>

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Fault, FileFault, excerpt};
use crate::locate::entry;
use crate::model::{FileId, Model, Payload, Tensor};
use crate::wire::Field;

/// What marks an address in memory where a path should be, in models that ONNX Runtime holds.
const MEMORY_MARKER: &str = "_ORT_MEM_ADDR_";

/// The entries of `external_data` that say where the elements lie.
#[derive(Default)]
pub(crate) struct Entries<'a> {
    /// The location as the file has it, and the offset of its entry.
    pub(crate) location: Option<(&'a str, u64)>,
    pub(crate) offset: Option<u64>,
    pub(crate) length: Option<u64>,
    /// The first key that ONNX Runtime does not take, and the offset of its entry.
    pub(crate) stray: Option<(&'a str, u64)>,
}

impl<'a> Entries<'a> {
    /// Takes in one more entry.
    pub(crate) fn add(&mut self, field: &Field<'a>) -> Result<(), Error> {
        let (key, value) = entry(field.message()?)?;
        let added = match key {
            "location" => once(&mut self.location, "location", (value, field.offset)),
            "offset" => number("offset", value).and_then(|n| once(&mut self.offset, "offset", n)),
            "length" => number("length", value).and_then(|n| once(&mut self.length, "length", n)),
            "checksum" if !value.is_empty() => Ok(()),
            _ => {
                self.stray.get_or_insert((key, field.offset));
                Ok(())
            }
        };
        added.map_err(|fault| field.name(Error::malformed(field.offset, fault)))
    }
}

fn once<T>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::ExternalKeyTwice { key }),
    }
}

fn number(key: &'static str, text: &str) -> Result<u64, Fault> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_decimal => Ok(number),
        _ => Err(Fault::ExternalNumber {
            key,
            found: excerpt(text),
        }),
    }
}

/// A location without its `.` parts, or why it is none.
///
/// # Errors
///
/// [`Fault::Location`] where it is empty or absolute, has a part `..`, a backslash, a NUL or a
/// drive letter, or stands for an address in memory.
pub fn normalise(location: &str) -> Result<String, Fault> {
    let bytes = location.as_bytes();
    let reason = if location.is_empty() {
        "is empty"
    } else if location.contains('\0') {
        "has a NUL"
    } else if location.contains(MEMORY_MARKER) {
        "stands for an address in memory"
    } else if location.starts_with('/') {
        "is absolute"
    } else if location.contains('\\') {
        "has a backslash"
    } else if matches!(bytes, [drive, b':', ..] if drive.is_ascii_alphabetic()) {
        "has a drive letter"
    } else if location.split('/').any(|part| part == "..") {
        "has a part \"..\""
    } else if matches!(location.rsplit('/').next(), Some("" | ".")) {
        "names a folder"
    } else {
        let parts = location
            .split('/')
            .filter(|part| !matches!(*part, "" | "."));
        return Ok(parts.collect::<Vec<_>>().join("/"));
    };
    Err(Fault::Location {
        reason,
        found: excerpt(location),
    })
}

/// Checks that a normalised location may be written below a folder of the user's. What a hidden file
/// does there, whoever made the model may know, and control characters move terminals' cursors.
///
/// # Errors
///
/// [`Fault::Location`] where a part of it begins with a dot, as those names do that this tool keeps
/// for itself, or has a control character.
pub fn check_plain(location: &str) -> Result<(), Fault> {
    let reason = if location.split('/').any(|part| part.starts_with('.')) {
        "has a part that begins with a dot"
    } else if location.contains(char::is_control) {
        "has a control character"
    } else {
        return Ok(());
    };
    Err(Fault::Location {
        reason,
        found: excerpt(location),
    })
}

/// Opens one external data file for reading, given its normalised location, and says its canonical
/// path.
///
/// What is open is the file at that path even if somebody changes folders and links meanwhile: on
/// Unix every part of the path is opened in the folder before it, and none may have become a link.
/// A pipe does not block.
///
/// # Errors
///
/// [`Error::Io`] where the file or the folder cannot be found; [`Error::ExternalFile`] where the
/// location is not normalised, or leads through symbolic links out of the folder, or to something
/// that is no regular file.
pub fn open(model_dir: &Path, location: &str) -> Result<(PathBuf, File), Error> {
    let (folder, inner) = find(model_dir, location)?;
    let path = folder.join(&inner);
    let file = open_below(&folder, &inner).map_err(|source| io(&path, source))?;
    let metadata = file.metadata().map_err(|source| io(&path, source))?;
    if !metadata.is_file() {
        return Err(Error::ExternalFile {
            location: excerpt(location),
            fault: FileFault::NotRegular,
        });
    }
    Ok((path, file))
}

/// The canonical paths of the model's folder, and of a location below that.
fn find(model_dir: &Path, location: &str) -> Result<(PathBuf, PathBuf), Error> {
    let fault = |fault| Error::ExternalFile {
        location: excerpt(location),
        fault,
    };
    if normalise(location).as_deref() != Ok(location) {
        return Err(fault(FileFault::NotNormalised));
    }
    // The folder of a bare file name.
    let model_dir = match model_dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => model_dir,
    };
    let folder = canonical(model_dir)?;
    let path = canonical(&folder.join(location))?;
    let Ok(inner) = path.strip_prefix(&folder).map(Path::to_owned) else {
        return Err(fault(FileFault::Outside(path)));
    };
    let metadata = fs::metadata(&path).map_err(|source| io(&path, source))?;
    if !metadata.is_file() {
        return Err(fault(FileFault::NotRegular));
    }
    Ok((folder, inner))
}

/// Opens the file at the canonical path `inner` below the canonical path `folder`.
#[cfg(unix)]
fn open_below(folder: &Path, inner: &Path) -> io::Result<File> {
    use rustix::fs::{CWD, Mode, OFlags, openat};

    // What it takes to go through a folder: on Linux no right to list it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const THROUGH: OFlags = OFlags::PATH;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const THROUGH: OFlags = OFlags::RDONLY;

    let through = THROUGH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let last = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut at = openat(CWD, folder, through, Mode::empty())?;
    let mut parts = inner.iter().peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() {
            through
        } else {
            last
        };
        at = openat(&at, part, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(File::from(at))
}

/// Opens the file at the canonical path `inner` below the canonical path `folder`.
#[cfg(not(unix))]
fn open_below(folder: &Path, inner: &Path) -> io::Result<File> {
    let path = folder.join(inner);
    let file = File::open(&path)?;
    match fs::canonicalize(&path)? == path {
        true => Ok(file),
        false => Err(io::Error::other("the path has changed meanwhile")),
    }
}

/// Opens all of a model's external data files for reading, in the order of
/// [`Model::external_files`], and says their canonical paths.
///
/// # Errors
///
/// As [`open`], and [`Error::ExternalFile`] where two locations lead to one file, or one to the
/// model file itself.
pub fn open_all(model_path: &Path, model: &Model<'_>) -> Result<Vec<(PathBuf, File)>, Error> {
    if model.external_files.is_empty() {
        return Ok(Vec::new());
    }
    let model_dir = model_path.parent().unwrap_or(Path::new(""));
    let mut owners = HashMap::from([(canonical(model_path)?, "the model")]);
    let mut files = Vec::with_capacity(model.external_files.len());
    for location in &model.external_files {
        let (path, file) = open(model_dir, location)?;
        if let Some(other) = owners.insert(path.clone(), location) {
            return Err(Error::ExternalFile {
                location: location.clone(),
                fault: FileFault::Shared(other.to_owned()),
            });
        }
        files.push((path, file));
    }
    Ok(files)
}

/// Checks that a tensor's elements lie within their external data file, given that file's length
/// in bytes. Elements in the model file always do.
///
/// # Errors
///
/// [`Error::Malformed`] with [`Fault::ExternalExtent`].
pub fn check_extent(model: &Model<'_>, tensor: &Tensor<'_>, file_len: u64) -> Result<(), Error> {
    let Payload::Dense { file, span, .. } = &tensor.payload else {
        return Ok(());
    };
    if *file == FileId::MODEL || span.end() <= file_len {
        return Ok(());
    }
    let fault = Fault::ExternalExtent {
        start: span.start,
        len: span.len,
        location: model.location(*file).unwrap_or_default().to_owned(),
        file_len,
    };
    Err(Error::malformed(tensor.offset, fault)
        .in_field("TensorProto.external_data")
        .in_tensor(tensor.name)
        .under(&tensor.path))
}

fn canonical(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).map_err(|source| io(path, source))
}

fn io(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// What lies there once a path was found to be canonical, and changed before it is opened.
    #[test]
    fn links_put_in_meanwhile_are_not_followed() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/w.bin"), b"weights").unwrap();
        let mut found = String::new();
        let open = |inner: &str| open_below(&folder, Path::new(inner));
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
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let dir = tempfile::TempDir::new().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let opened = open_below(dir.path(), Path::new("pipe")).unwrap();
        assert!(!opened.metadata().unwrap().is_file());
    }
}
