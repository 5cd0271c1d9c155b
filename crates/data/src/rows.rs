//! Reads the kept samples of a file, in pieces.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};

use crate::array::{Array, Values};
use crate::error::{Fault, bad};
use crate::header::{Header, TOO_MANY};
use crate::options::DataOptions;
use crate::room::Room;

const PIECE_BYTES: usize = 1 << 16;

/// A sequential reader that can pass over parts.
pub(crate) trait Skip: Read {
    fn skip(&mut self, n: u64) -> io::Result<()>;
}

impl Skip for BufReader<File> {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        self.seek_relative(i64::try_from(n).map_err(io::Error::other)?)
    }
}

/// A reader that must unpack bytes to pass over them.
pub(crate) struct Packed<R>(pub(crate) R);

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Skip for Packed<R> {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        if io::copy(&mut (&mut self.0).take(n), &mut io::sink())? < n {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Reads the kept samples of an array, whose first axis counts them; `numbers` converts elements.
/// Returns how many samples the file has.
pub(crate) fn samples(
    header: &Header,
    from: &mut impl Skip,
    options: &DataOptions,
    room: &mut Room,
    numbers: impl Fn(Vec<u8>) -> Values,
) -> Result<(usize, Array), Fault> {
    let Some((n, dims)) = header.dims.split_first() else {
        return Err(bad(
            "an array without axes: the first one counts the samples",
        ));
    };
    let width = dims.iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim));
    let width = width.ok_or_else(|| bad(TOO_MANY))?;
    let mut values = numbers(Vec::new());
    values.reserve(options.n_kept(*n).saturating_mul(width), room)?;
    let element_bytes = header.element.width;
    let row_bytes = (width as u64).saturating_mul(element_bytes as u64);
    read_rows(from, (*n, row_bytes), element_bytes, options, |bytes| {
        values.append(numbers(bytes))
    })?;
    let array = Array {
        name: None,
        dims: dims.to_vec(),
        values,
        layout: None,
    };
    Ok((*n, array))
}

/// Reads the kept ones of `n` rows, each of `row_bytes`, and calls `each` with pieces of whole units
/// of `unit_bytes`.
pub(crate) fn read_rows(
    from: &mut impl Skip,
    (n, row_bytes): (usize, u64),
    unit_bytes: usize,
    options: &DataOptions,
    mut each: impl FnMut(Vec<u8>),
) -> Result<(), Fault> {
    let Some(kept) = options.kept(n) else {
        let all = (n as u64).saturating_mul(row_bytes);
        return pieces(from, all, unit_bytes, &mut each);
    };
    let mut at = 0;
    for row in kept {
        from.skip((row as u64 - at).saturating_mul(row_bytes))?;
        pieces(from, row_bytes, unit_bytes, &mut each)?;
        at = row as u64 + 1;
    }
    Ok(())
}

fn pieces(
    from: &mut impl Read,
    n_bytes: u64,
    unit_bytes: usize,
    each: &mut impl FnMut(Vec<u8>),
) -> Result<(), Fault> {
    let piece = (PIECE_BYTES / unit_bytes.max(1)).max(1) * unit_bytes;
    let mut left = n_bytes;
    while left > 0 {
        let wanted = left.min(piece as u64);
        let mut bytes = Vec::new();
        from.take(wanted).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < wanted {
            let found = n_bytes - left + bytes.len() as u64;
            return Err(ends_after(found, n_bytes));
        }
        left -= wanted;
        each(bytes);
    }
    Ok(())
}

/// Fails if an unpacked file ends before all numbers of its header.
pub(crate) fn check_length(len: u64, header: &Header) -> Result<(), Fault> {
    match len.saturating_sub(header.len_bytes) {
        found if found < header.elements_bytes => Err(ends_after(found, header.elements_bytes)),
        _ => Ok(()),
    }
}

fn ends_after(found: u64, wanted: u64) -> Fault {
    bad(format!(
        "it ends after {found} of {wanted} bytes of numbers"
    ))
}

/// Fails if more follows the `wanted` bytes of numbers. Reading to the end also makes the archive
/// check its sums.
pub(crate) fn check_end(from: &mut impl Read, wanted: u64) -> Result<(), Fault> {
    match from.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(bad(format!(
            "it has more than the {wanted} bytes of its shape"
        ))),
    }
}
