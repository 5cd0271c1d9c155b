//! IDX, the format of MNIST.
//!
//! ```text
//! 0 0  type  n_dims  dims (u32, big-endian, n_dims times)  elements (big-endian)
//! ```
//! Source: <http://yann.lecun.com/exdb/mnist/>

use std::fs::File;
use std::io::{BufReader, Read, Seek};

use flate2::read::MultiGzDecoder;

use crate::array::{Array, Layout, Values};
use crate::error::{Fault, Result, bad};
use crate::options::DataOptions;
use crate::room::Room;
use crate::rows::{Packed, Skip, check_end, check_length, widths};

/// The first bytes of gzip files; IDX is often gzipped.
pub const GZIP: [u8; 2] = [0x1F, 0x8B];

/// The type of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

/// The header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The elements' type.
    pub element: Element,
    /// The shape; the first axis counts the samples.
    pub dims: Vec<usize>,
    /// Bytes of all elements.
    pub elements_bytes: u64,
    /// The header itself.
    pub bytes: Vec<u8>,
}

/// Returns whether a file with these first bytes is IDX, or gzip that may contain it.
pub fn is_idx(first: &[u8]) -> bool {
    first.starts_with(&GZIP) || matches!(first, [0, 0, 0x08..=0x0E, 1..=8, ..])
}

impl Element {
    /// Bytes of an element.
    pub fn len_bytes(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::I16 => 2,
            Element::I32 | Element::F32 => 4,
            Element::F64 => 8,
        }
    }
}

impl Header {
    /// Reads the header.
    pub fn read(from: &mut impl Read) -> Result<Header, Fault> {
        let mut magic = [0; 4];
        from.read_exact(&mut magic)?;
        let [0, 0, kind, n_dims @ 1..=8] = magic else {
            return Err(bad("not IDX by its first bytes"));
        };
        let element = match kind {
            0x08 => Element::U8,
            0x09 => Element::I8,
            0x0B => Element::I16,
            0x0C => Element::I32,
            0x0D => Element::F32,
            0x0E => Element::F64,
            _ => return Err(bad(format!("IDX has no element type {kind:#04x}"))),
        };
        let (mut bytes, mut dims) = (magic.to_vec(), Vec::new());
        let mut elements_bytes: Option<u64> = Some(element.len_bytes() as u64);
        for _ in 0..n_dims {
            let mut dim = [0; 4];
            from.read_exact(&mut dim)?;
            bytes.extend(dim);
            let dim = u32::from_be_bytes(dim);
            elements_bytes = elements_bytes.and_then(|n| n.checked_mul(u64::from(dim)));
            dims.push(dim as usize);
        }
        let elements_bytes =
            elements_bytes.ok_or_else(|| bad("its shape has more elements than can be"))?;
        Ok(Header {
            element,
            dims,
            elements_bytes,
            bytes,
        })
    }
}

/// Reads a file; the first axis counts the samples.
pub(crate) fn read(mut file: File, options: &DataOptions) -> Result<(usize, Array), Fault> {
    let mut first = Vec::new();
    (&mut file)
        .take(GZIP.len() as u64)
        .read_to_end(&mut first)?;
    file.rewind()?;
    let len = file.metadata()?.len();
    let (mut from, room) = (BufReader::new(file), Room::of(len));
    if first == GZIP {
        let mut from = Packed(BufReader::new(MultiGzDecoder::new(from)));
        let header = Header::read(&mut from)?;
        parse(header, from, options, room)
    } else {
        let header = Header::read(&mut from)?;
        check_length(len, header.bytes.len() as u64, header.elements_bytes)?;
        parse(header, from, options, room)
    }
}

fn parse(
    header: Header,
    mut from: impl Skip,
    options: &DataOptions,
    mut room: Room,
) -> Result<(usize, Array), Fault> {
    let (element, mut dims) = (header.element, header.dims);
    // There is at least one axis.
    let rest = dims.split_off(1);
    let n = dims.first().copied().unwrap_or(0);
    let dims = rest;
    let rows = options.rows(n);
    let (width, row_bytes) = widths(&dims, element.len_bytes())?;
    let mut values = values_of(element, &[]);
    values.reserve(&rows, width, &mut room)?;
    rows.read(&mut from, (row_bytes, element.len_bytes()), |bytes| {
        values.append(values_of(element, &bytes));
    })?;
    if rows.kept.is_none() {
        check_end(&mut from, header.elements_bytes)?;
    }
    // Images of one channel.
    let (dims, layout) = match dims[..] {
        [rows, columns] => (vec![1, rows, columns], Some(Layout::Nchw)),
        _ => (dims, None),
    };
    let array = Array {
        name: None,
        dims,
        values,
        layout,
    };
    Ok((n, array))
}

/// Converts big-endian elements to numbers.
fn values_of(element: Element, bytes: &[u8]) -> Values {
    match element {
        Element::U8 => Values::F32(bytes.iter().map(|byte| f32::from(*byte)).collect()),
        Element::I8 => Values::I64(bytes.iter().map(|byte| i64::from(*byte as i8)).collect()),
        Element::I16 => Values::I64(words(bytes, |b| i64::from(i16::from_be_bytes(b)))),
        Element::I32 => Values::I64(words(bytes, |b| i64::from(i32::from_be_bytes(b)))),
        Element::F32 => Values::F32(words(bytes, f32::from_be_bytes)),
        Element::F64 => Values::F64(words(bytes, f64::from_be_bytes)),
    }
}

fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let words = bytes.chunks_exact(N);
    words
        .map(|word| read(word.try_into().unwrap_or([0; N])))
        .collect()
}
