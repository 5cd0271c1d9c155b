//! NumPy's arrays: `.npy`, and `.npz`, a zip of these.
//!
//! ```text
//! 0x93 NUMPY  major  minor  length of the header (u16 or u32, little-endian)  header: a dictionary of Python's  elements
//! ```
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::LABELS;
use crate::array::{Array, Raw, labels_of};
use crate::error::{Fault, Result, bad, io};
use crate::header::numbers;
use crate::options::DataOptions;
use crate::room::Room;
use crate::rows::{Packed, check_end, check_length, samples};
use crate::sink::Sink;

pub use crate::header::{Element, Header, Kind};

/// The most bytes of a header. NumPy refuses more than 10,000.
const MAX_HEADER_BYTES: u64 = 1 << 16;

/// The most axes of an array, NumPy's limit.
const MAX_AXES: usize = 64;

/// Elements begin at a multiple of this, as NumPy does it.
const ALIGNMENT: usize = 64;

pub const MAX_ARRAYS: usize = 1024;

impl Header {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Fault`], also for arrays in Fortran's order.
    pub fn read(from: &mut impl Read) -> Result<Header, Fault> {
        let mut magic = [0; 8];
        from.read_exact(&mut magic)?;
        let (len, before) = match magic {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => {
                let mut len = [0; 2];
                from.read_exact(&mut len)?;
                (u64::from(u16::from_le_bytes(len)), 10)
            }
            [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => {
                let mut len = [0; 4];
                from.read_exact(&mut len)?;
                (u64::from(u32::from_le_bytes(len)), 12)
            }
            _ => return Err(bad("not an array of NumPy by its first bytes")),
        };
        if len > MAX_HEADER_BYTES {
            return Err(bad(format!(
                "a header of {len} bytes (limit {MAX_HEADER_BYTES})"
            )));
        }
        let mut header = Vec::new();
        from.take(len).read_to_end(&mut header)?;
        if (header.len() as u64) < len {
            return Err(bad(format!(
                "it ends after {} of {len} bytes of its header",
                header.len()
            )));
        }
        let header = String::from_utf8_lossy(&header);
        let malformed = || bad("the header of an array is not as NumPy writes it");
        let descr = text_of(&header, "descr").ok_or_else(malformed)?;
        if value_of(&header, "fortran_order").is_some_and(|value| value.starts_with("True")) {
            return Err(bad(
                "an array in Fortran's order: save `numpy.ascontiguousarray` of it",
            ));
        }
        let dims = dims_of(&header).ok_or_else(malformed)?;
        if dims.len() > MAX_AXES {
            return Err(bad(format!(
                "an array of {} axes (limit {MAX_AXES})",
                dims.len()
            )));
        }
        let Some(element) = Element::of(descr) else {
            return Err(bad(format!(
                "elements of type {:?} are not read",
                descr.chars().take(20).collect::<String>()
            )));
        };
        Header::new(element, dims, before + len)
    }

    /// Encodes the header of an array as NumPy writes it; `descr` is a type such as `<f4`.
    pub fn bytes_of(descr: &str, dims: &[usize]) -> Vec<u8> {
        let listed: Vec<String> = dims.iter().map(usize::to_string).collect();
        let shape = match &listed[..] {
            [one] => format!("({one},)"),
            more => format!("({})", more.join(", ")),
        };
        let mut text =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        // 10 bytes before the text, and a line feed after it.
        let padded = (10 + text.len() + 1).next_multiple_of(ALIGNMENT);
        text.push_str(&" ".repeat(padded - 11 - text.len()));
        text.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        // With few axes, it stays below 64 KiB.
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }
}

/// Returns the text after a key of the dictionary.
fn value_of<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let at = header.find(&format!("'{key}'"))?;
    let rest = header.get(at + key.len() + 2..)?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn text_of<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    value_of(header, key)?
        .strip_prefix('\'')?
        .split('\'')
        .next()
}

fn dims_of(header: &str) -> Option<Vec<usize>> {
    let inside = value_of(header, "shape")?
        .strip_prefix('(')?
        .split_once(')')?
        .0;
    let dims = inside
        .split(',')
        .map(str::trim)
        .filter(|dim| !dim.is_empty());
    dims.map(|dim| dim.parse().ok()).collect()
}

impl Element {
    fn of(descr: &str) -> Option<Element> {
        let [order, kind, width @ ..] = descr.as_bytes() else {
            return None;
        };
        let width = std::str::from_utf8(width).ok()?.parse().ok()?;
        let (kind, is_known) = match kind {
            b'f' => (Kind::Float, matches!(width, 2 | 4 | 8)),
            b'i' => (Kind::Signed, matches!(width, 1 | 2 | 4 | 8)),
            b'u' => (Kind::Unsigned, matches!(width, 1 | 2 | 4 | 8)),
            b'b' => (Kind::Bool, width == 1),
            _ => return None,
        };
        let is_big = match order {
            b'<' | b'|' => false,
            b'>' => true,
            _ => return None,
        };
        is_known.then_some(Element {
            kind,
            width,
            is_big,
        })
    }
}

pub(crate) fn read_npy(file: File, options: &DataOptions) -> Result<(usize, Array), Fault> {
    let len = file.metadata()?.len();
    let mut from = BufReader::new(file);
    let header = Header::read(&mut from)?;
    check_length(len, &header)?;
    let read = |bytes| numbers(header.element, bytes);
    samples(&header, &mut from, options, &mut Room::of(len), read)
}

pub(crate) fn read_npz(file: File, options: &DataOptions) -> Result<Raw, Fault> {
    let failed = |error: zip::result::ZipError| bad(error.to_string());
    let mut room = Room::of(file.metadata()?.len());
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(failed)?;
    if archive.len() > MAX_ARRAYS {
        return Err(bad(format!(
            "it has {} arrays (limit {MAX_ARRAYS})",
            archive.len()
        )));
    }
    let mut raw = Raw::default();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(failed)?;
        let Some(name) = entry.name().strip_suffix(".npy").map(str::to_owned) else {
            continue;
        };
        let mut entry = Packed(entry);
        let header = Header::read(&mut entry)?;
        room.unpack(header.elements_bytes)?;
        let read = |bytes| numbers(header.element, bytes);
        let (n, mut array) = samples(&header, &mut entry, options, &mut room, read)?;
        array.name = Some(name.clone());
        if options.limit.is_none() {
            check_end(&mut entry, header.elements_bytes)?;
        }
        if LABELS.contains(&name.as_str()) {
            raw.labels = Some((n, labels_of(&array)?));
        } else {
            raw.arrays.push((n, array));
        }
    }
    Ok(raw)
}

/// An array to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub name: String,
    /// Element type in NumPy's notation, little-endian: `<f4`, `<i8`, ...
    pub descr: &'static str,
    pub dims: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub fn write_npz(path: &Path, arrays: &[Stored]) -> Result<()> {
    let file = File::create(path).map_err(io(path))?;
    put_npz(Sink::new(file), arrays).map_err(io(path)).map(drop)
}

pub fn npz(arrays: &[Stored]) -> std::io::Result<Vec<u8>> {
    put_npz(Cursor::new(Vec::new()), arrays).map(Cursor::into_inner)
}

fn put_npz<W: Write + Seek>(to: W, arrays: &[Stored]) -> std::io::Result<W> {
    let mut archive = ZipWriter::new(to);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for array in arrays {
        let name = format!("{}.npy", array.name);
        archive
            .start_file(name, options)
            .map_err(std::io::Error::other)?;
        archive.write_all(&Header::bytes_of(array.descr, &array.dims))?;
        archive.write_all(&array.bytes)?;
    }
    archive.finish().map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn headers_are_as_numpy_writes_them() {
        // NumPy 2.4.6 writes these for zeros((2, 3), "u2") and zeros(5, "f4").
        for (descr, dims, text) in [
            (
                "<u2",
                &[2, 3][..],
                "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }",
            ),
            (
                "<f4",
                &[5],
                "{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }",
            ),
            (
                "|u1",
                &[],
                "{'descr': '|u1', 'fortran_order': False, 'shape': (), }",
            ),
        ] {
            let bytes = Header::bytes_of(descr, dims);
            assert!(bytes.len().is_multiple_of(64));
            let wanted = [&b"\x93NUMPY\x01\x00\x76\x00"[..], text.as_bytes()].concat();
            assert!(bytes.starts_with(&wanted));
            assert!(
                bytes[wanted.len()..bytes.len() - 1]
                    .iter()
                    .all(|byte| *byte == b' ')
            );
            assert_eq!(bytes.last(), Some(&b'\n'));
            let header = Header::read(&mut &bytes[..]).unwrap();
            assert_eq!(header.dims, dims);
            assert_eq!(header.len_bytes, bytes.len() as u64);
        }
    }
}
