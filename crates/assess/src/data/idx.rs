//! IDX, the format of MNIST, as it is or gzipped.
//!
//! ```text
//! 0 0  type  n_dims  dims (u32, big-endian, n_dims times)  elements (big-endian)
//! ```
//! Source: <http://yann.lecun.com/exdb/mnist/>

use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::data::{Array, Layout, open, read_exactly};
use crate::engine::Values;
use crate::error::{Result, bad, io};

/// Whether a file begins as IDX does, or as gzip.
pub(super) fn is_idx(path: &Path) -> Result<bool> {
    let mut first = Vec::new();
    open(path)?
        .take(4)
        .read_to_end(&mut first)
        .map_err(io(path))?;
    Ok(matches!(
        first[..],
        [0x1F, 0x8B, ..] | [0, 0, 0x08..=0x0E, 1..=8]
    ))
}

/// Reads a file; the first axis counts the samples.
pub(super) fn read(path: &Path) -> Result<Array> {
    let mut file = BufReader::new(open(path)?);
    let mut first = [0; 2];
    file.read_exact(&mut first).map_err(io(path))?;
    let rest = first.chain(file);
    match first == [0x1F, 0x8B] {
        true => parse(path, MultiGzDecoder::new(rest)),
        false => parse(path, rest),
    }
}

fn parse(path: &Path, mut from: impl Read) -> Result<Array> {
    let mut magic = [0; 4];
    from.read_exact(&mut magic).map_err(io(path))?;
    let [0, 0, kind, n_dims @ 1..=8] = magic else {
        return Err(bad(path, "not IDX by its first bytes"));
    };
    let width = match kind {
        0x08 | 0x09 => 1,
        0x0B => 2,
        0x0C | 0x0D => 4,
        0x0E => 8,
        _ => return Err(bad(path, format!("IDX has no element type {kind:#04x}"))),
    };
    let mut dims = Vec::new();
    let mut n_bytes: Option<u64> = Some(width);
    for _ in 0..n_dims {
        let mut dim = [0; 4];
        from.read_exact(&mut dim).map_err(io(path))?;
        let dim = u32::from_be_bytes(dim);
        n_bytes = n_bytes.and_then(|n| n.checked_mul(u64::from(dim)));
        dims.push(dim as usize);
    }
    let n_bytes = n_bytes.ok_or_else(|| bad(path, "its shape has more elements than can be"))?;
    let bytes = read_exactly(path, &mut from, n_bytes)?;
    let mut more = [0];
    if from.read(&mut more).map_err(io(path))? > 0 {
        return Err(bad(
            path,
            format!("it has more than the {n_bytes} bytes of its shape"),
        ));
    }
    let dims = dims.split_off(1);
    let values = match kind {
        0x08 => Values::F32(bytes.iter().map(|byte| f32::from(*byte)).collect()),
        0x09 => Values::I64(bytes.iter().map(|byte| i64::from(*byte as i8)).collect()),
        0x0B => Values::I64(words(&bytes, |b| i64::from(i16::from_be_bytes(b)))),
        0x0C => Values::I64(words(&bytes, |b| i64::from(i32::from_be_bytes(b)))),
        0x0D => Values::F32(words(&bytes, f32::from_be_bytes)),
        _ => Values::F64(words(&bytes, f64::from_be_bytes)),
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
