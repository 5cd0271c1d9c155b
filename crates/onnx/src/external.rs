//! External data: the files beside the model that hold weights.
//!
//! `TensorProto.external_data` is pairs of strings: `location`, a path relative to the model's
//! folder, and in bytes `offset` (0 where absent) and `length` (what shape and type say).
//!
//! Source: <https://onnx.ai/onnx/repo-docs/ExternalData.html>

use std::collections::HashMap;
use std::fs;
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
}

impl<'a> Entries<'a> {
    /// Takes in one more entry. Other keys, such as `checksum`, say nothing about the place.
    pub(crate) fn add(&mut self, field: &Field<'a>) -> Result<(), Error> {
        let (key, value) = entry(field.message()?)?;
        let added = match key {
            "location" => once(&mut self.location, "location", (value, field.offset)),
            "offset" => number("offset", value).and_then(|n| once(&mut self.offset, "offset", n)),
            "length" => number("length", value).and_then(|n| once(&mut self.length, "length", n)),
            _ => Ok(()),
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

/// The canonical path of one external data file, given its normalised location.
///
/// # Errors
///
/// [`Error::Io`] where the file or the folder cannot be found; [`Error::ExternalFile`] where the
/// location is not normalised, or leads through symbolic links out of the folder, or to something
/// that is no regular file.
pub fn resolve(model_dir: &Path, location: &str) -> Result<PathBuf, Error> {
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
    if !path.starts_with(&folder) {
        return Err(fault(FileFault::Outside(path)));
    }
    let metadata = fs::metadata(&path).map_err(|source| io(&path, source))?;
    if !metadata.is_file() {
        return Err(fault(FileFault::NotRegular));
    }
    Ok(path)
}

/// The canonical paths of all of a model's external data files, in the order of
/// [`Model::external_files`].
///
/// # Errors
///
/// As [`resolve`], and [`Error::ExternalFile`] where two locations lead to one file, or one to the
/// model file itself.
pub fn resolve_all(model_path: &Path, model: &Model<'_>) -> Result<Vec<PathBuf>, Error> {
    if model.external_files.is_empty() {
        return Ok(Vec::new());
    }
    let model_dir = model_path.parent().unwrap_or(Path::new(""));
    let mut owners = HashMap::from([(canonical(model_path)?, "the model")]);
    let mut paths = Vec::with_capacity(model.external_files.len());
    for location in &model.external_files {
        let path = resolve(model_dir, location)?;
        if let Some(other) = owners.insert(path.clone(), location) {
            return Err(Error::ExternalFile {
                location: location.clone(),
                fault: FileFault::Shared(other.to_owned()),
            });
        }
        paths.push(path);
    }
    Ok(paths)
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

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}
