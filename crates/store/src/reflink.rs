//! Outputs that begin as clones of their inputs, on file systems that share blocks.

use std::fs::File;
use std::ops::Range;

use crate::error::Result;
use crate::input::Input;
use crate::output::Output;

/// The block size of file systems that share blocks, or a divisor of it.
const BLOCK_BYTES: usize = 4096;

/// Lets `output` begin with the bytes of `input`, if the file system can share them and only few are to
/// be `changed`, given as sorted ranges of the file. Says whether it did.
///
/// If most blocks change, to write all of them in order is faster.
pub fn try_clone(
    output: &Output,
    input: &Input,
    changed: impl Iterator<Item = Range<u64>>,
) -> bool {
    match (output.file(), input.file()) {
        (Some(to), Some(from)) => blocks_bytes(changed) <= input.len / 2 && reflink(to, from),
        _ => false,
    }
}

/// Writes to a clone, at `offset`, the chunk `bytes`, of which only `changed` differs from the input.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io).
pub fn write_changed(
    output: &Output,
    bytes: &[u8],
    offset: u64,
    changed: &[Range<usize>],
) -> Result<()> {
    blocks(changed, bytes.len()).try_for_each(|block| {
        let start = offset + block.start as u64;
        output.write_all_at(bytes.get(block).unwrap_or_default(), start)
    })
}

/// Bytes of the blocks that hold `changed`, or somewhat more.
fn blocks_bytes(changed: impl Iterator<Item = Range<u64>>) -> u64 {
    let block = BLOCK_BYTES as u64;
    let blocks = changed.map(|range| range.end.div_ceil(block) - range.start / block);
    blocks.sum::<u64>().saturating_mul(block)
}

/// The blocks that hold the ranges `changed`, as ranges of a chunk of `len` bytes. They are whole, so
/// that the system has to read none in order to write a part of it.
fn blocks(changed: &[Range<usize>], len: usize) -> impl Iterator<Item = Range<usize>> {
    let floor = |offset: usize| offset / BLOCK_BYTES * BLOCK_BYTES;
    let mut rest = changed.iter().peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let mut end = first.end.next_multiple_of(BLOCK_BYTES);
        while let Some(next) = rest.next_if(|next| floor(next.start) <= end) {
            end = end.max(next.end.next_multiple_of(BLOCK_BYTES));
        }
        Some(floor(first.start)..end.min(len))
    })
}

#[cfg(target_os = "linux")]
fn reflink(to: &File, from: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn reflink(_to: &File, _from: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_what_changed_in_whole_blocks() {
        let found: Vec<_> = blocks(&[5..6, 4095..4097, 9000..9001, 20000..20001], 20100).collect();
        assert_eq!(found, [0..12288, 16384..20100]);
    }
}
