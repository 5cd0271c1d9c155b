//! Reads the kept samples of a file, in pieces.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};

use crate::array::Values;
use crate::error::{Fault, bad};
use crate::room::Room;

/// The approximate number of bytes to read at once.
const PIECE_BYTES: usize = 1 << 16;

/// A sequential reader that can pass over parts.
pub(crate) trait Skip: Read {
    /// Passes over `n` bytes.
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

/// The samples of an array.
pub(crate) struct Rows {
    /// The number of samples in the file.
    pub(crate) n: usize,
    /// The samples to keep, in order; absent for all.
    pub(crate) kept: Option<Vec<usize>>,
}

impl Rows {
    /// Returns how many are kept.
    pub(crate) fn n_kept(&self) -> usize {
        self.kept.as_ref().map_or(self.n, Vec::len)
    }

    /// Reads the kept rows of `from`, each of shape `dims` with elements of so many bytes, which
    /// `numbers` converts.
    pub(crate) fn values(
        &self,
        from: &mut impl Skip,
        (dims, element_bytes): (&[usize], usize),
        room: &mut Room,
        numbers: impl Fn(Vec<u8>) -> Values,
    ) -> Result<Values, Fault> {
        let too_many = || bad("its shape has more elements than can be");
        let width = dims
            .iter()
            .try_fold(1_usize, |product, dim| product.checked_mul(*dim));
        let width = width.ok_or_else(too_many)?;
        let row_bytes = (width as u64)
            .checked_mul(element_bytes as u64)
            .ok_or_else(too_many)?;
        let mut values = numbers(Vec::new());
        values.reserve(self.n_kept().saturating_mul(width), room)?;
        self.read(from, (row_bytes, element_bytes), |bytes| {
            values.append(numbers(bytes))
        })?;
        Ok(values)
    }

    /// Reads the kept rows of `from`, each of `row_bytes`, and calls `each` with pieces of whole
    /// units of `unit_bytes`.
    pub(crate) fn read(
        &self,
        from: &mut impl Skip,
        (row_bytes, unit_bytes): (u64, usize),
        mut each: impl FnMut(Vec<u8>),
    ) -> Result<(), Fault> {
        let Some(kept) = &self.kept else {
            let all = (self.n as u64).saturating_mul(row_bytes);
            return pieces(from, all, unit_bytes, &mut each);
        };
        let mut at = 0;
        for row in kept {
            from.skip((*row as u64 - at).saturating_mul(row_bytes))?;
            pieces(from, row_bytes, unit_bytes, &mut each)?;
            at = *row as u64 + 1;
        }
        Ok(())
    }
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
            return Err(bad(format!(
                "it ends after {found} of {n_bytes} bytes of numbers"
            )));
        }
        left -= wanted;
        each(bytes);
    }
    Ok(())
}

/// Fails if an unpacked file does not have `wanted` bytes of numbers after its header.
pub(crate) fn check_length(len: u64, header: u64, wanted: u64) -> Result<(), Fault> {
    match len.saturating_sub(header) {
        found if found < wanted => Err(bad(format!(
            "it ends after {found} of {wanted} bytes of numbers"
        ))),
        _ => Ok(()),
    }
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
