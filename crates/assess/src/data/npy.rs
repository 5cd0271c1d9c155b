//! Arrays of NumPy: `.npy`, and `.npz`, a zip of these.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, Write};
use std::path::Path;

use half::f16;
use onnxseal_data::LABELS;
use onnxseal_data::npy::{Element, Header, Kind, MAX_ARRAYS};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::data::{Array, MAX_BYTES, Raw, labels_of, of_format, open, read_exactly};
use crate::engine::Values;
use crate::error::{Result, bad, io};

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

/// An array as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Element type as NumPy calls it, little-endian: `<f4`, `<i8`, ...
    pub descr: &'static str,
    /// Shape.
    pub dims: Vec<usize>,
    /// Elements.
    pub bytes: Vec<u8>,
}

/// Writes arrays to an `.npz`.
///
/// # Errors
/// [`crate::Error::Io`].
pub fn write_npz(path: &Path, arrays: &[Stored]) -> Result<()> {
    let file = File::create(path).map_err(io(path))?;
    put_npz(file, arrays).map_err(io(path)).map(drop)
}

/// The bytes of an `.npz`.
///
/// # Errors
/// Where an array is too large for one.
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

fn parse(path: &Path, name: Option<String>, mut from: impl Read) -> Result<Array> {
    let header = Header::read(&mut from).map_err(of_format(path))?;
    let Some((_, dims)) = header.dims.split_first() else {
        return Err(bad(
            path,
            "an array without axes: the first one counts the samples",
        ));
    };
    let bytes = read_exactly(path, &mut from, header.elements_bytes)?;
    Ok(Array {
        name,
        dims: dims.to_vec(),
        values: values(header.element, bytes),
        layout: None,
    })
}

fn values(element: Element, mut bytes: Vec<u8>) -> Values {
    if element.is_big {
        bytes
            .chunks_exact_mut(element.width)
            .for_each(<[u8]>::reverse);
    }
    macro_rules! each {
        ($n:literal, $read:expr) => {
            bytes
                .chunks_exact($n)
                .map(|b| $read(b.try_into().unwrap_or([0; $n])))
                .collect()
        };
    }
    match (element.kind, element.width) {
        (Kind::Float, 2) => Values::F32(each!(2, |b| f16::from_le_bytes(b).to_f32())),
        (Kind::Float, 4) => Values::F32(each!(4, f32::from_le_bytes)),
        (Kind::Float, _) => Values::F64(each!(8, f64::from_le_bytes)),
        (Kind::Signed, 1) => Values::I64(each!(1, |b| i64::from(i8::from_le_bytes(b)))),
        (Kind::Signed, 2) => Values::I64(each!(2, |b| i64::from(i16::from_le_bytes(b)))),
        (Kind::Signed, 4) => Values::I64(each!(4, |b| i64::from(i32::from_le_bytes(b)))),
        (Kind::Signed, _) => Values::I64(each!(8, i64::from_le_bytes)),
        (_, 1) => Values::I64(each!(1, |b: [u8; 1]| i64::from(b[0]))),
        (_, 2) => Values::I64(each!(2, |b| i64::from(u16::from_le_bytes(b)))),
        (_, 4) => Values::I64(each!(4, |b| i64::from(u32::from_le_bytes(b)))),
        (..) => Values::I64(each!(8, |b| i64::try_from(u64::from_le_bytes(b))
            .unwrap_or(i64::MAX))),
    }
}
