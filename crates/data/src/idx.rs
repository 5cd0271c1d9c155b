//! IDX, the format of MNIST, often gzipped.
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
use crate::header::{Element, Header, Kind, numbers};
use crate::options::DataOptions;
use crate::room::Room;
use crate::rows::{Packed, Skip, check_end, check_length, samples};

const GZIP: [u8; 2] = [0x1F, 0x8B];

fn header(from: &mut impl Read) -> Result<Header, Fault> {
    let mut magic = [0; 4];
    from.read_exact(&mut magic)?;
    let [0, 0, kind, n_dims @ 1..=8] = magic else {
        return Err(bad("not IDX by its first bytes"));
    };
    let (kind, width) = match kind {
        0x08 => (Kind::Unsigned, 1),
        0x09 => (Kind::Signed, 1),
        0x0B => (Kind::Signed, 2),
        0x0C => (Kind::Signed, 4),
        0x0D => (Kind::Float, 4),
        0x0E => (Kind::Float, 8),
        _ => return Err(bad(format!("IDX has no element type {kind:#04x}"))),
    };
    let mut dims = Vec::new();
    for _ in 0..n_dims {
        let mut dim = [0; 4];
        from.read_exact(&mut dim)?;
        dims.push(u32::from_be_bytes(dim) as usize);
    }
    let element = Element {
        kind,
        width,
        is_big: true,
    };
    Header::new(element, dims, 4 + 4 * u64::from(n_dims))
}

/// Reads a file; the first axis counts the samples.
pub(crate) fn read(mut file: File, options: &DataOptions) -> Result<(usize, Array), Fault> {
    let mut first = Vec::new();
    (&mut file).take(4).read_to_end(&mut first)?;
    file.rewind()?;
    let len = file.metadata()?.len();
    let (mut from, room) = (BufReader::new(file), Room::of(len));
    if first.starts_with(&GZIP) {
        let mut from = Packed(BufReader::new(MultiGzDecoder::new(from)));
        let header = header(&mut from)?;
        return parse(&header, from, options, room);
    }
    if !matches!(first[..], [0, 0, 0x08..=0x0E, 1..=8]) {
        return Err(bad(
            "not a data set by its name (.npz, .npy, .csv, .bin) or its first bytes (IDX, gzipped or not), and no folder",
        ));
    }
    let header = header(&mut from)?;
    check_length(len, &header)?;
    parse(&header, from, options, room)
}

fn parse(
    header: &Header,
    mut from: impl Skip,
    options: &DataOptions,
    mut room: Room,
) -> Result<(usize, Array), Fault> {
    let element = header.element;
    let read = |bytes: Vec<u8>| match element.kind {
        // Pixels.
        Kind::Unsigned => Values::F32(bytes.into_iter().map(f32::from).collect()),
        _ => numbers(element, bytes),
    };
    let (n, mut array) = samples(header, &mut from, options, &mut room, read)?;
    if options.n_kept(n) == n {
        check_end(&mut from, header.elements_bytes)?;
    }
    // Images of one channel.
    if let [rows, columns] = array.dims[..] {
        (array.dims, array.layout) = (vec![1, rows, columns], Some(Layout::Nchw));
    }
    Ok((n, array))
}
