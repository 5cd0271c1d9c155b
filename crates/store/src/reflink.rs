//! Outputs that begin as clones of their inputs, on file systems that share blocks.

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::error::Result;
use crate::input::Input;
use crate::output::Output;

/// The block size of file systems that share blocks, or a divisor of it.
const BLOCK_BYTES: u64 = 4096;

/// The bytes of a new file that take as long to write as one separate piece of a clone, for which
/// the file system must find and note a place. Measured on btrfs and XFS: 16 us per piece.
const PIECE_BYTES: u64 = 16 << 10;

/// Clones `input` to `output`, if the file system can share blocks and few pieces will be
/// `changed`, given as sorted ranges of the file. Returns whether it did.
///
/// If many or large pieces change, writing the whole file in order is faster.
pub fn try_clone(
    output: &dyn Output,
    input: &Input,
    changed: impl Iterator<Item = Range<u64>>,
) -> bool {
    match (output.file(), input.file()) {
        (Some((_, to)), Ok(Some(from))) => {
            cost(changed) <= input.len / 2 && share_blocks(to, &from).is_ok()
        }
        _ => false,
    }
}

fn share_blocks(to: &File, from: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        Ok(rustix::fs::ioctl_ficlone(to, from)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (to, from);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Writes the chunk `bytes` to a clone at `offset`; only `changed` differs from the input.
pub fn write_changed(
    output: &dyn Output,
    bytes: &[u8],
    offset: u64,
    changed: &[Range<usize>],
) -> Result<()> {
    let changed = changed.iter().map(|of| of.start as u64..of.end as u64);
    pieces(changed).try_for_each(|Range { start, end }| {
        let end = bytes.len().min(end as usize);
        let piece = bytes.get(start as usize..end).unwrap_or_default();
        output.write_all_at(piece, offset + start)
    })
}

/// Returns the cost of writing the pieces that contain `changed`, in bytes of a new file.
fn cost(changed: impl Iterator<Item = Range<u64>>) -> u64 {
    let costs = pieces(changed).map(|piece| PIECE_BYTES + (piece.end - piece.start));
    costs.fold(0, u64::saturating_add)
}

/// Returns the blocks that contain the ranges `changed`, joined where they touch. Whole blocks spare
/// the system from reading a block to write a part of it.
fn pieces(changed: impl Iterator<Item = Range<u64>>) -> impl Iterator<Item = Range<u64>> {
    let blocks = |of: Range<u64>| {
        let (first, last) = (of.start / BLOCK_BYTES, of.end.div_ceil(BLOCK_BYTES));
        first * BLOCK_BYTES..last.saturating_mul(BLOCK_BYTES)
    };
    let mut rest = changed.map(blocks).peekable();
    std::iter::from_fn(move || {
        let mut piece = rest.next()?;
        while let Some(next) = rest.next_if(|next| next.start <= piece.end) {
            piece.end = piece.end.max(next.end);
        }
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_cover_what_changed_in_whole_blocks() {
        let changed = [5..6, 4095..4097, 9000..9001, 20000..20001];
        let found: Vec<_> = pieces(changed.into_iter()).collect();
        assert_eq!(found, [0..12288, 16384..20480]);
    }

    #[test]
    fn of_a_chunk_the_pieces_that_changed_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let output = crate::create_file(&dir.path().join("new"), 0, false).unwrap();
        write_changed(&*output, &[1; 20100], 100, &[9000..9001, 20000..20001]).unwrap();
        let mut written = vec![9; 20200];
        crate::read_exact_at(output.file().unwrap().1, &mut written, 0).unwrap();
        let is_written = |at: usize| (8292..12388).contains(&at) || at >= 16484;
        assert!(
            (0..)
                .zip(&written)
                .all(|(at, byte)| (*byte == 1) == is_written(at))
        );
    }

    #[test]
    fn each_piece_costs_more_than_its_blocks() {
        const BLOCK: u64 = BLOCK_BYTES;
        let of = |ranges: &[Range<u64>]| cost(ranges.iter().cloned());
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[5..6]), PIECE_BYTES + BLOCK);
        // Within one block, and in the next one: one piece.
        assert_eq!(of(&[5..6, 70..80, 4095..4097]), PIECE_BYTES + 2 * BLOCK);
        assert_eq!(of(&[5..6, 4100..4101]), PIECE_BYTES + 2 * BLOCK);
        assert_eq!(of(&[5..6, 9000..9001]), 2 * (PIECE_BYTES + BLOCK));
    }
}
