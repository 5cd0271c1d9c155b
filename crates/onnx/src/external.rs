//! External data: files beside the model with weights.
//!
//! `TensorProto.external_data` is pairs of strings: `location`, a path relative to the model's
//! folder, and in bytes `offset` (0 if absent) and `length` (as shape and type say, if absent or 0).
//! Where ONNX Runtime saved weights as its kernels pack them, `prepacked_N` has a kernel's name and
//! the places of packed copies in the same file: `NAME|OFFSET;LENGTH;CHECKSUM|...`.
//!
//! Source: <https://onnx.ai/onnx/repo-docs/ExternalData.html>

use crate::error::{Error, Fault, excerpt};
use crate::model::{FileId, Model, Payload, Span, Tensor};
use crate::schema::entry;
use crate::wire::Field;

/// Marks an address in memory instead of a path, in models inside ONNX Runtime.
const MEMORY_MARKER: &str = "_ORT_MEM_ADDR_";

/// How the keys of packed copies begin.
pub(crate) const PREPACKED: &str = "prepacked";

/// The entries of `external_data` that say where the elements lie.
#[derive(Default)]
pub(crate) struct Entries<'a> {
    /// The location as in the file, and the offset of its entry.
    pub(crate) location: Option<(&'a str, u64)>,
    pub(crate) offset: Option<u64>,
    pub(crate) length: Option<u64>,
    /// Whether there are packed copies of the elements.
    pub(crate) is_prepacked: bool,
    /// The first key that ONNX Runtime does not accept, and the offset of its entry.
    pub(crate) stray: Option<(&'a str, u64)>,
}

impl<'a> Entries<'a> {
    pub(crate) fn add(&mut self, field: &Field<'a>) -> Result<(), Error> {
        let message = field.message()?;
        let [key, value] = message.strings(&entry::SCHEMA, [entry::key, entry::value])?;
        let added = match key {
            "location" => once(&mut self.location, "location", (value, field.offset)),
            "offset" => number("offset", value).and_then(|n| once(&mut self.offset, "offset", n)),
            "length" => number("length", value).and_then(|n| once(&mut self.length, "length", n)),
            "checksum" if !value.is_empty() => Ok(()),
            _ if key.starts_with(PREPACKED) && names_copies(value) => {
                self.is_prepacked = true;
                Ok(())
            }
            _ => {
                self.stray.get_or_insert((key, field.offset));
                Ok(())
            }
        };
        added.map_err(|fault| field.name(Error::malformed(field.offset, fault)))
    }
}

/// Returns whether a value names packed copies of a tensor as ONNX Runtime does.
fn names_copies(value: &str) -> bool {
    let is_copy = |copy: &str| {
        let mut numbers = copy.split(';');
        let mut next = |key| numbers.next().and_then(|text| number(key, text).ok());
        let end = next("offset").zip(next("length"));
        let is_whole = numbers.next().is_some() && numbers.next().is_none();
        is_whole && end.is_some_and(|(start, len)| start.checked_add(len).is_some())
    };
    let copies = value.split_once('|');
    copies.is_some_and(|(_, copies)| copies.split('|').all(is_copy))
}

fn once<T>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => {
            let expected = format_args!("external_data key {key} once");
            Err(Fault::expected(expected, "it twice"))
        }
    }
}

fn number(key: &'static str, text: &str) -> Result<u64, Fault> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_decimal => Ok(number),
        _ => {
            let expected = format_args!("a decimal number as external_data {key}");
            let found = excerpt(text);
            Err(Fault::expected(expected, format_args!("{found:?}")))
        }
    }
}

/// Removes `.` parts from a location, and checks that it is a plain path below the model's folder.
pub fn normalise(location: &str) -> Result<String, Fault> {
    let parts = (location.split('/')).filter(|part| !matches!(*part, "" | "."));
    let has_drive = |part: &str| {
        let bytes = part.as_bytes();
        matches!(bytes, [drive, b':', ..] if drive.is_ascii_alphabetic())
    };
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
    } else if parts.clone().next().is_some_and(has_drive) {
        "has a drive letter"
    } else if parts.clone().any(|part| part == "..") {
        "has a part \"..\""
    } else if matches!(location.rsplit('/').next(), Some("" | ".")) {
        "names a folder"
    } else {
        return Ok(parts.collect::<Vec<_>>().join("/"));
    };
    Err(Fault::Location {
        reason,
        found: excerpt(location),
    })
}

/// Checks that a normalised location is safe to write below a folder of the user's: a hostile model
/// could use hidden files, and control characters move a terminal's cursor. The names that this tool
/// reserves begin with a dot too.
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

/// Checks that a tensor's elements lie within their external data file, given that file's length
/// in bytes. Elements in the model file always do.
pub fn check_extent(model: &Model<'_>, tensor: &Tensor<'_>, file_len: u64) -> Result<(), Error> {
    let Payload::Dense { file, span, .. } = &tensor.payload else {
        return Ok(());
    };
    if *file == FileId::MODEL || span.end() <= file_len {
        return Ok(());
    }
    let location = model.location(*file).unwrap_or_default();
    let Span { start, len } = span;
    let expected = format_args!("{len} bytes at offset {start} of external data file {location:?}");
    let fault = Fault::expected(expected, format_args!("a file of {file_len} bytes"));
    Err(Error::malformed(tensor.message.start, fault)
        .in_field("TensorProto.external_data")
        .in_tensor(tensor.name)
        .under(&tensor.path))
}
