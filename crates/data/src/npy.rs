//! NumPy's arrays: `.npy`, and `.npz`, a zip of these.
//!
//! ```text
//! 0x93 NUMPY  major  minor  length of the header (u16 or u32, little-endian)  header: a dictionary of Python's  elements
//! ```
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::io::Read;

use crate::error::{Result, bad};

/// Bytes of a header, at most: NumPy refuses more than 10,000.
const MAX_HEADER_BYTES: u64 = 1 << 16;

/// Where elements begin: a multiple of it, as NumPy has it.
const ALIGNMENT: usize = 64;

/// Arrays of an `.npz`, at most.
pub const MAX_ARRAYS: usize = 1024;

/// What an array says before its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The elements' type.
    pub element: Element,
    /// The shape.
    pub dims: Vec<usize>,
    /// Bytes of all elements.
    pub elements_bytes: u64,
    /// Bytes before the elements.
    pub len_bytes: u64,
}

/// The kind of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Float,
    Signed,
    Unsigned,
    Bool,
}

/// An element type, such as `<f4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its kind.
    pub kind: Kind,
    /// Its bytes: 1, 2, 4 or 8.
    pub width: usize,
    /// Whether the highest byte is the first.
    pub is_big: bool,
}

impl Header {
    /// Reads all that stands before the elements.
    ///
    /// # Errors
    /// [`Error`](crate::Error); also for arrays in Fortran's order.
    pub fn read(from: &mut impl Read) -> Result<Header> {
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
        let Some(element) = Element::of(descr) else {
            return Err(bad(format!(
                "elements of type {:?} are not read",
                descr.chars().take(20).collect::<String>()
            )));
        };
        let elements_bytes = dims.iter().try_fold(element.width as u64, |product, dim| {
            product.checked_mul(*dim as u64)
        });
        Ok(Header {
            element,
            elements_bytes: elements_bytes
                .ok_or_else(|| bad("an array of more elements than can be"))?,
            dims,
            len_bytes: before + len,
        })
    }

    /// What stands before the elements of an array, as NumPy writes it; the type is such as `<f4`.
    pub fn bytes_of(descr: &str, dims: &[usize]) -> Vec<u8> {
        let listed: Vec<String> = dims.iter().map(usize::to_string).collect();
        let shape = match &listed[..] {
            [one] => format!("({one},)"),
            more => format!("({})", more.join(", ")),
        };
        let mut text =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        // 10 bytes before it, and a line feed behind.
        let padded = (10 + text.len() + 1).next_multiple_of(ALIGNMENT);
        text.push_str(&" ".repeat(padded - 11 - text.len()));
        text.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        // Of few axes, so never as long as 64 KiB.
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }
}

/// What stands behind a key of the dictionary.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn headers_are_as_numpy_writes_them() {
        // What NumPy 2.4.6 writes of zeros((2, 3), "u2"), and of zeros(5, "f4").
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
