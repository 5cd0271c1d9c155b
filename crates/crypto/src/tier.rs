//! The keys of a tier above the first. They encrypt targets without changing the length; separate
//! tags cover whole chunks as they are stored.
//!
//! ```text
//! stream   byte i of a chunk: byte i mod 16 of AES-256(stream key, nonce(chunk) ‖ u32be(i / 16))
//! shuffle  block k: AES-256(shuffle key, u32be(tensor) ‖ u64be(chunk) ‖ u32be(k))
//! tag      AES-256-GCM(auth key, nonce(chunk), no plaintext, the stored chunk as associated data)
//! ```

use std::ops::Range;

use aes::Aes256;
use aes::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _};

use crate::backend::{Ctr, Gcm, Tag};
use crate::derive::{self, ChunkId};
use crate::error::Error;
use crate::gather::{self, Scratch};
use crate::secret::Secret;

/// The fewest elements to shuffle. With fewer, brute force could undo the shuffle.
pub const MIN_SHUFFLED: usize = 64;

/// Bytes of a stream to make at a time: enough blocks to keep the widest processors busy, few
/// enough to stay in the first cache.
const PIECE: usize = 4096;

const BLOCK: usize = 16;

/// Numbers to draw from together; dropping one is rare.
const GROUP: usize = 16;

/// Whether elements are shuffled, or brought back to their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Seal,
    Open,
}

/// The keys of one tier from 2 up, of one artifact. Zeroized on drop.
pub struct TierKey {
    auth: Gcm,
    stream: Aes256,
    /// The stream's cipher for long runs.
    long: Ctr,
    shuffle: Ctr,
}

opaque_debug!(TierKey);

impl TierKey {
    pub(crate) fn new([auth, stream, shuffle]: &[Secret; 3]) -> Result<TierKey, Error> {
        Ok(TierKey {
            auth: Gcm::new(auth)?,
            stream: Aes256::new(stream.expose().into()),
            long: Ctr::new(stream)?,
            shuffle: Ctr::new(shuffle)?,
        })
    }

    /// Computes the tier's tag of a chunk as it is stored.
    pub fn tag(&self, at: ChunkId, stored: &[u8]) -> Result<Tag, Error> {
        self.auth.seal(derive::nonce(at), stored, &mut [])
    }

    /// XORs the tier's stream into `runs` of the chunk `bytes`, ANDed with the bytes of each run's
    /// mask, which repeat from the start of the run. Runs that do not overlap may come in any
    /// order. A second call restores the bytes.
    pub fn apply_stream(
        &self,
        at: ChunkId,
        bytes: &mut [u8],
        runs: impl Iterator<Item = (Range<usize>, [u8; 8])> + Clone,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let rule = "runs of a stream lie within the chunk";
        if bytes.len() > gather::MAX_CHUNK_BYTES
            || runs.clone().any(|(run, _)| run.end > bytes.len())
        {
            return Err(Error::Misuse(rule));
        }
        let nonce = derive::nonce(at);
        let buffer = &mut scratch.reserve(2 * PIECE, 0, 0)?.text[..2 * PIECE];
        let (piece, blocks) = buffer.split_at_mut(PIECE);
        let mut batch = Batch {
            cipher: &self.stream,
            nonce,
            blocks: blocks.as_chunks_mut().0,
            n_blocks: 0,
            parts: Vec::with_capacity(PIECE / BLOCK),
        };
        for (run, mask) in runs {
            let mut start = run.start;
            while start < run.end {
                let phase = (start - run.start) % mask.len();
                let mask = u64::from_le_bytes(mask).rotate_right(8 * phase as u32);
                let is_long = run.end - start >= PIECE;
                let mut end = match start % BLOCK {
                    0 if is_long && mask == u64::MAX => run.end,
                    0 if is_long => start + PIECE,
                    _ if is_long => start.next_multiple_of(BLOCK),
                    _ => run.end,
                };
                let counter = (start / BLOCK) as u32;
                if end - start < PIECE {
                    end = batch.add(start..end, mask, bytes);
                } else if mask == u64::MAX {
                    self.long.apply(nonce, counter, &mut bytes[start..end])?;
                } else {
                    piece.fill(0);
                    self.long.apply(nonce, counter, piece)?;
                    xor_masked(&mut bytes[start..end], piece, mask);
                }
                start = end;
            }
        }
        batch.apply(bytes);
        Ok(())
    }

    /// Shuffles the elements of `width` bytes in `runs` of the chunk `bytes`, or restores their
    /// order. `tensor` is the number of their tensor, and `chunk` that of the chunk in its file. The
    /// runs are sorted, disjoint, non-empty ranges of whole elements.
    pub fn shuffle(
        &self,
        (tensor, chunk): (u32, u64),
        bytes: &mut [u8],
        (runs, width): (&[Range<usize>], usize),
        direction: Direction,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let n_bytes = gather::check(runs, bytes.len())?;
        let is_whole = |run: &Range<usize>| run.len().is_multiple_of(width);
        if ![1, 2, 4, 8, 16].contains(&width) || !runs.iter().all(is_whole) {
            let rule = "whole elements of 1, 2, 4, 8 or 16 bytes are shuffled";
            return Err(Error::Misuse(rule));
        }
        let id = ChunkId {
            file: tensor,
            chunk,
        };
        let n_draws = (n_bytes / width).saturating_sub(1);
        let Scratch { text, draws, .. } = scratch.reserve(n_bytes + PIECE, 0, n_draws)?;
        let (text, piece) = text[..n_bytes + PIECE].split_at_mut(n_bytes);
        let draws = &mut draws[..n_draws];
        self.draw(derive::nonce(id), draws, piece)?;
        let exchange = match width {
            1 => exchange::<1>,
            2 => exchange::<2>,
            4 => exchange::<4>,
            8 => exchange::<8>,
            _ => exchange::<16>,
        };
        if let [run] = runs {
            exchange(&mut bytes[run.clone()], draws, direction);
            return Ok(());
        }
        gather::gather(bytes, runs.iter().cloned(), text);
        exchange(text, draws, direction);
        gather::scatter(text, runs.iter().cloned(), bytes);
        Ok(())
    }

    /// Draws for n elements, one more than there are `draws`: one number below n, one below n - 1,
    /// and so on to one below 2. Each is `floor(w * n / 2^32)` for the next number w of the stream
    /// with `w * n mod 2^32 >= 2^32 mod n`, so all are equally likely (Lemire, Fast Random Integer
    /// Generation in an Interval, 2019). `piece` is for the stream.
    fn draw(&self, nonce: [u8; 12], draws: &mut [u32], piece: &mut [u8]) -> Result<(), Error> {
        let n = draws.len() as u32 + 1;
        let (mut drawn, mut block) = (0, 0);
        while drawn < draws.len() {
            piece.fill(0);
            self.shuffle.apply(nonce, block, piece)?;
            block += (piece.len() / BLOCK) as u32;
            let (numbers, _) = piece.as_chunks::<4>();
            for group in numbers.chunks(GROUP) {
                let left = &mut draws[drawn..];
                let below = n - drawn as u32;
                let are_drawn = match (group.first_chunk(), left.first_chunk_mut()) {
                    (Some(group), Some(left)) => draw_group(group, below, left),
                    _ => false,
                };
                drawn += if are_drawn {
                    GROUP
                } else {
                    draw_each(group, below, left)
                };
            }
        }
        Ok(())
    }
}

/// Draws a number from each of `numbers`, the first below `below`. Returns `false` if one may have
/// to be dropped.
fn draw_group(numbers: &[[u8; 4]; GROUP], below: u32, draws: &mut [u32; GROUP]) -> bool {
    let mut is_low = false;
    for ((draw, number), i) in draws.iter_mut().zip(numbers).zip(0..) {
        let below = below.wrapping_sub(i);
        let product = u64::from(u32::from_le_bytes(*number)).wrapping_mul(u64::from(below));
        *draw = (product >> 32) as u32;
        // 2^32 mod n is below n.
        is_low |= (product as u32) < below;
    }
    !is_low
}

/// Draws one by one from `numbers`, as far as there is room in `draws`. Returns how many were
/// drawn.
fn draw_each(numbers: &[[u8; 4]], mut below: u32, draws: &mut [u32]) -> usize {
    let mut drawn = 0;
    for number in numbers {
        let Some(draw) = draws.get_mut(drawn) else {
            break;
        };
        let product = u64::from(u32::from_le_bytes(*number)) * u64::from(below);
        let dropped_below = (1 << 32) % u64::from(below);
        if product & u64::from(u32::MAX) >= dropped_below {
            *draw = (product >> 32) as u32;
            (drawn, below) = (drawn + 1, below - 1);
        }
    }
    drawn
}

/// Parts of a stream for any runs, made together because a cipher does many blocks in the time of
/// one.
struct Batch<'b> {
    cipher: &'b Aes256,
    nonce: [u8; 12],
    blocks: &'b mut [[u8; BLOCK]],
    /// The number of blocks in use.
    n_blocks: usize,
    parts: Vec<Part>,
}

/// Bytes of a chunk, and their part of a stream.
struct Part {
    range: Range<usize>,
    /// The position of the stream's byte for the first one.
    at: usize,
    /// The mask of the stream, from the first byte on.
    mask: u64,
}

impl Batch<'_> {
    /// Empties the batch if it is full, and adds what fits of `run`. Returns where this part ends.
    fn add(&mut self, run: Range<usize>, mask: u64, bytes: &mut [u8]) -> usize {
        if self.n_blocks == self.blocks.len() {
            self.apply(bytes);
        }
        let first = run.start / BLOCK;
        let n_free = self.blocks.len() - self.n_blocks;
        let end = run.end.min((first + n_free) * BLOCK);
        let n_blocks = end.div_ceil(BLOCK) - first;
        let blocks = &mut self.blocks[self.n_blocks..][..n_blocks];
        count(self.nonce, first as u32, blocks);
        let (range, at) = (run.start..end, self.n_blocks * BLOCK + run.start % BLOCK);
        self.parts.push(Part { range, at, mask });
        self.n_blocks += n_blocks;
        end
    }

    /// XORs all parts into `bytes`, and empties the batch.
    fn apply(&mut self, bytes: &mut [u8]) {
        let blocks = &mut self.blocks[..self.n_blocks];
        (self.cipher).encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
        for Part { range, at, mask } in self.parts.drain(..) {
            let stream = &blocks.as_flattened()[at..][..range.len()];
            xor_masked(&mut bytes[range], stream, mask);
        }
        self.n_blocks = 0;
    }
}

/// The blocks `nonce ‖ u32be(i)`, for i from `first`.
fn count(nonce: [u8; 12], first: u32, blocks: &mut [[u8; BLOCK]]) {
    let mut start = [0; BLOCK];
    start[..12].copy_from_slice(&nonce);
    let start = u128::from_be_bytes(start);
    for (block, i) in blocks.iter_mut().zip(first..) {
        *block = (start | u128::from(i)).to_be_bytes();
    }
}

/// `bytes ⊕= stream AND mask`, with a repeating mask. Both must have one length.
fn xor_masked(bytes: &mut [u8], stream: &[u8], mask: u64) {
    let (words, rest) = bytes.as_chunks_mut::<8>();
    let (streams, last) = stream.as_chunks::<8>();
    for (word, stream) in words.iter_mut().zip(streams) {
        let masked = u64::from_le_bytes(*stream) & mask;
        *word = (u64::from_le_bytes(*word) ^ masked).to_le_bytes();
    }
    for ((byte, stream), mask) in rest.iter_mut().zip(last).zip(mask.to_le_bytes()) {
        *byte ^= stream & mask;
    }
}

/// Exchanges elements of `N` bytes by `draws` (Fisher and Yates), or undoes that.
fn exchange<const N: usize>(text: &mut [u8], draws: &[u32], direction: Direction) {
    let (elements, _) = text.as_chunks_mut::<N>();
    let exchanges = (0..elements.len()).rev().zip(draws);
    let exchange = |(i, draw): (usize, &u32)| elements.swap(i, *draw as usize);
    match direction {
        Direction::Seal => exchanges.for_each(exchange),
        // As long as the draws: all but the first element.
        Direction::Open => exchanges.rev().for_each(exchange),
    }
}

#[cfg(test)]
mod tests;
