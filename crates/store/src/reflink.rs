//! Outputs that begin as clones of their inputs, on file systems that share blocks.

use std::fs::File;
use std::ops::Range;

use crate::error::Result;
use crate::input::Input;
use crate::output::Output;

/// The block size of file systems that share blocks, or a divisor of it.
const BLOCK_BYTES: usize = 4096;

/// The bytes of a new file that take as long to write as one separate piece of a clone, for which
/// the file system must find and note a place. Measured on btrfs and XFS: 16 us per piece.
const PIECE_BYTES: u64 = 16 << 10;

/// Clones `input` to `output`, if the file system can share blocks and few pieces will be
/// `changed`, given as sorted ranges of the file. Returns whether it did.
///
/// If many or large pieces change, writing the whole file in order is faster.
pub fn try_clone(
    output: &Output,
    input: &Input,
    changed: impl Iterator<Item = Range<u64>>,
) -> bool {
    match (output.file(), input.file()) {
        (Some(to), Ok(Some(from))) => cost(changed) <= input.len / 2 && reflink(to, &from),
        _ => false,
    }
}

/// Writes the chunk `bytes` to a clone at `offset`; only `changed` differs from the input.
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

/// Returns the cost of writing the blocks that contain `changed`, in bytes of a new file.
fn cost(changed: impl Iterator<Item = Range<u64>>) -> u64 {
    let block = BLOCK_BYTES as u64;
    let (mut cost, mut end) = (0u64, None);
    for range in changed {
        let (first, last) = (range.start / block, range.end.div_ceil(block));
        let begins = end.is_none_or(|end| first > end);
        let n_new = last.saturating_sub(end.map_or(first, |end| first.max(end)));
        let piece = if begins { PIECE_BYTES } else { 0 };
        cost = cost.saturating_add(piece + n_new * block);
        end = end.max(Some(last));
    }
    cost
}

/// Returns the blocks that contain the ranges `changed`, as ranges of a chunk of `len` bytes. Whole
/// blocks spare the system from reading a block to write a part of it.
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
    #![allow(clippy::single_range_in_vec_init)]
    use super::*;

    #[test]
    fn blocks_cover_what_changed_in_whole_blocks() {
        let found: Vec<_> = blocks(&[5..6, 4095..4097, 9000..9001, 20000..20001], 20100).collect();
        assert_eq!(found, [0..12288, 16384..20100]);
    }

    #[test]
    fn each_piece_costs_more_than_its_blocks() {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let of = |ranges: &[Range<u64>]| cost(ranges.iter().cloned());
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[5..6]), PIECE_BYTES + BLOCK);
        // Within one block, and in the next one: one piece.
        assert_eq!(of(&[5..6, 70..80, 4095..4097]), PIECE_BYTES + 2 * BLOCK);
        assert_eq!(of(&[5..6, 4100..4101]), PIECE_BYTES + 2 * BLOCK);
        assert_eq!(of(&[5..6, 9000..9001]), 2 * (PIECE_BYTES + BLOCK));
    }
}
