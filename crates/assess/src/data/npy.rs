//! NumPy's arrays: `.npy`, and `.npz`, a zip of these.
//!
//! ```text
//! 0x93 NUMPY  major  minor  length of the header (u16 or u32, little-endian)  header: a dictionary of Python's  elements
//! ```
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::io::{BufReader, Read};
use std::path::Path;

use half::f16;
use zip::ZipArchive;

use crate::data::{Array, MAX_BYTES, Raw, labels_of, open, read_exactly};
use crate::engine::Values;
use crate::error::{Result, bad, io};

/// Bytes of a header, at most: NumPy refuses more than 10,000.
const MAX_HEADER_BYTES: u64 = 1 << 16;

/// Arrays of an `.npz`, at most.
const MAX_ARRAYS: usize = 1024;

/// The array of labels.
const LABELS: [&str; 3] = ["labels", "label", "y"];

pub(super) fn read_npy(path: &Path) -> Result<Array> {
    let file = BufReader::new(open(path)?);
    parse(path, None, file)
}

pub(super) fn read_npz(path: &Path) -> Result<Raw> {
    let failed = |error: zip::result::ZipError| bad(path, error.to_string());
    let mut archive = ZipArchive::new(BufReader::new(open(path)?)).map_err(failed)?;
    if archive.len() > MAX_ARRAYS {
        return Err(bad(
            path,
            format!("it has {} arrays (limit {MAX_ARRAYS})", archive.len()),
        ));
    }
    let (mut arrays, mut labels) = (Vec::new(), None);
    let mut left = MAX_BYTES;
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(failed)?;
        let Some(name) = entry.name().strip_suffix(".npy").map(str::to_owned) else {
            continue;
        };
        let array = parse(path, Some(name.clone()), entry)?;
        let taken = array.values.len() as u64 * 8;
        left = left
            .checked_sub(taken)
            .ok_or_else(|| bad(path, "its arrays together are too large"))?;
        match LABELS.contains(&name.as_str()) {
            true => labels = Some(labels_of(path, &array)?),
            false => arrays.push(array),
        }
    }
    Ok((arrays, labels))
}

fn parse(path: &Path, name: Option<String>, mut from: impl Read) -> Result<Array> {
    let mut magic = [0; 8];
    from.read_exact(&mut magic).map_err(io(path))?;
    let len = match magic {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => {
            let mut len = [0; 2];
            from.read_exact(&mut len).map_err(io(path))?;
            u64::from(u16::from_le_bytes(len))
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => {
            let mut len = [0; 4];
            from.read_exact(&mut len).map_err(io(path))?;
            u64::from(u32::from_le_bytes(len))
        }
        _ => return Err(bad(path, "not an array of NumPy by its first bytes")),
    };
    if len > MAX_HEADER_BYTES {
        return Err(bad(
            path,
            format!("a header of {len} bytes (limit {MAX_HEADER_BYTES})"),
        ));
    }
    let header = read_exactly(path, &mut from, len)?;
    let header = String::from_utf8_lossy(&header);
    let malformed = || bad(path, "the header of an array is not as NumPy writes it");
    let descr = text_of(&header, "descr").ok_or_else(malformed)?;
    if value_of(&header, "fortran_order").is_some_and(|value| value.starts_with("True")) {
        return Err(bad(
            path,
            "an array in Fortran's order: save `numpy.ascontiguousarray` of it",
        ));
    }
    let dims = dims_of(&header).ok_or_else(malformed)?;
    let Some(element) = Element::of(descr) else {
        return Err(bad(
            path,
            format!(
                "elements of type {:?} are not read",
                descr.chars().take(20).collect::<String>()
            ),
        ));
    };
    let n_bytes = dims.iter().try_fold(element.width as u64, |product, dim| {
        product.checked_mul(*dim as u64)
    });
    let n_bytes = n_bytes.ok_or_else(|| bad(path, "an array of more elements than can be"))?;
    let Some((_, dims)) = dims.split_first() else {
        return Err(bad(
            path,
            "an array without axes: the first one counts the samples",
        ));
    };
    let bytes = read_exactly(path, &mut from, n_bytes)?;
    Ok(Array {
        name,
        dims: dims.to_vec(),
        values: element.values(bytes),
        layout: None,
    })
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

/// An element type, such as `<f4`.
struct Element {
    kind: u8,
    width: usize,
    is_big: bool,
}

impl Element {
    fn of(descr: &str) -> Option<Element> {
        let [order, kind, width @ ..] = descr.as_bytes() else {
            return None;
        };
        let width = std::str::from_utf8(width).ok()?.parse().ok()?;
        let is_known = match kind {
            b'f' => matches!(width, 2 | 4 | 8),
            b'i' | b'u' => matches!(width, 1 | 2 | 4 | 8),
            b'b' => width == 1,
            _ => false,
        };
        let is_big = match order {
            b'<' | b'|' => false,
            b'>' => true,
            _ => return None,
        };
        is_known.then_some(Element {
            kind: *kind,
            width,
            is_big,
        })
    }

    fn values(&self, mut bytes: Vec<u8>) -> Values {
        if self.is_big {
            bytes.chunks_exact_mut(self.width).for_each(<[u8]>::reverse);
        }
        macro_rules! each {
            ($n:literal, $read:expr) => {
                bytes
                    .chunks_exact($n)
                    .map(|b| $read(b.try_into().unwrap_or([0; $n])))
                    .collect()
            };
        }
        match (self.kind, self.width) {
            (b'f', 2) => Values::F32(each!(2, |b| f16::from_le_bytes(b).to_f32())),
            (b'f', 4) => Values::F32(each!(4, f32::from_le_bytes)),
            (b'f', _) => Values::F64(each!(8, f64::from_le_bytes)),
            (b'i', 1) => Values::I64(each!(1, |b| i64::from(i8::from_le_bytes(b)))),
            (b'i', 2) => Values::I64(each!(2, |b| i64::from(i16::from_le_bytes(b)))),
            (b'i', 4) => Values::I64(each!(4, |b| i64::from(i32::from_le_bytes(b)))),
            (b'i', _) => Values::I64(each!(8, i64::from_le_bytes)),
            (_, 1) => Values::I64(each!(1, |b: [u8; 1]| i64::from(b[0]))),
            (_, 2) => Values::I64(each!(2, |b| i64::from(u16::from_le_bytes(b)))),
            (_, 4) => Values::I64(each!(4, |b| i64::from(u32::from_le_bytes(b)))),
            (..) => Values::I64(each!(8, |b| i64::try_from(u64::from_le_bytes(b))
                .unwrap_or(i64::MAX))),
        }
    }
}
