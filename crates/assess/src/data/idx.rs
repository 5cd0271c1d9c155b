//! IDX, the format of MNIST, as it is or gzipped.

use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use onnxseal_data::idx::{self, Element, GZIP, Header};

use crate::data::{Array, Layout, of_format, open, read_exactly};
use crate::engine::Values;
use crate::error::{Result, bad, io};

/// Whether a file begins as IDX does, or as gzip.
pub(super) fn is_idx(path: &Path) -> Result<bool> {
    let mut first = Vec::new();
    open(path)?
        .take(4)
        .read_to_end(&mut first)
        .map_err(io(path))?;
    Ok(idx::is_idx(&first))
}

/// Reads a file; the first axis counts the samples.
pub(super) fn read(path: &Path) -> Result<Array> {
    let mut file = BufReader::new(open(path)?);
    let mut first = [0; 2];
    file.read_exact(&mut first).map_err(io(path))?;
    let rest = first.chain(file);
    match first == GZIP {
        true => parse(path, MultiGzDecoder::new(rest)),
        false => parse(path, rest),
    }
}

fn parse(path: &Path, mut from: impl Read) -> Result<Array> {
    let header = Header::read(&mut from).map_err(of_format(path))?;
    let (n_bytes, mut dims) = (header.elements_bytes, header.dims);
    let bytes = read_exactly(path, &mut from, n_bytes)?;
    let mut more = [0];
    if from.read(&mut more).map_err(io(path))? > 0 {
        return Err(bad(
            path,
            format!("it has more than the {n_bytes} bytes of its shape"),
        ));
    }
    let dims = dims.split_off(1);
    let values = match header.element {
        Element::U8 => Values::F32(bytes.iter().map(|byte| f32::from(*byte)).collect()),
        Element::I8 => Values::I64(bytes.iter().map(|byte| i64::from(*byte as i8)).collect()),
        Element::I16 => Values::I64(words(&bytes, |b| i64::from(i16::from_be_bytes(b)))),
        Element::I32 => Values::I64(words(&bytes, |b| i64::from(i32::from_be_bytes(b)))),
        Element::F32 => Values::F32(words(&bytes, f32::from_be_bytes)),
        Element::F64 => Values::F64(words(&bytes, f64::from_be_bytes)),
    };
    // Images of one channel.
    let (dims, layout) = match dims[..] {
        [rows, columns] => (vec![1, rows, columns], Some(Layout::Nchw)),
        _ => (dims, None),
    };
    Ok(Array {
        name: None,
        dims,
        values,
        layout,
    })
}

fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let words = bytes.chunks_exact(N);
    words
        .map(|word| read(word.try_into().unwrap_or([0; N])))
        .collect()
}
