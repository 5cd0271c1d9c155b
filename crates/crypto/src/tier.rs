//! The keys of a tier above the first: its targets are encrypted without a change of length, apart from
//! its tags, which are over whole chunks as they are stored.
//!
//! ```text
//! stream   byte i of a chunk: byte i mod 16 of AES-256(stream key, nonce(chunk) ‖ u32be(i / 16))
//! shuffle  block k: AES-256(shuffle key, u32be(tensor) ‖ u64be(chunk) ‖ u32be(k))
//! tag      AES-256-GCM(auth key, nonce(chunk), no plaintext, the stored chunk as associated data)
//! ```

use std::fmt;
use std::ops::Range;

use aes::Aes256;
use aes::cipher::{
    InnerIvInit as _, KeyInit as _, StreamCipher as _, StreamCipherCoreWrapper,
    StreamCipherSeek as _,
};
use ctr::CtrCore;
use ctr::flavors::Ctr32BE;
use zeroize::Zeroizing;

use crate::backend::{Aead as _, Chosen, Tag};
use crate::derive::{self, ChunkId, TierSecrets};
use crate::error::Error;
use crate::gather::{self, Scratch};
use crate::secret::Secret;

/// The fewest elements that are shuffled. The places of fewer could be guessed.
pub const MIN_SHUFFLED: usize = 64;

/// Bytes of a stream that are made at a time. They stay in the first cache.
const PIECE: usize = 4096;

const BLOCK: usize = 16;

type Ctr<'k> = StreamCipherCoreWrapper<CtrCore<&'k Aes256, Ctr32BE>>;

/// Whether elements are shuffled, or brought back to their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To shuffled places.
    Seal,
    /// Back to their own places.
    Open,
}

/// The keys of one tier from 2 up, of one artifact. Zeroized on drop.
pub struct TierKey {
    auth: Chosen,
    stream: Aes256,
    shuffle: Aes256,
}

impl TierKey {
    pub(crate) fn new(key: &Secret, manifest: &[u8]) -> Result<TierKey, Error> {
        let secrets = TierSecrets::new(key, manifest)?;
        let cipher = |secret: &Secret| Aes256::new(secret.expose().into());
        Ok(TierKey {
            auth: Chosen::new(&secrets.auth)?,
            stream: cipher(&secrets.stream),
            shuffle: cipher(&secrets.shuffle),
        })
    }

    /// The tier's tag of a chunk as it is stored.
    ///
    /// # Errors
    /// [`Error::Backend`] where the library fails.
    pub fn tag(&self, at: ChunkId, stored: &[u8]) -> Result<Tag, Error> {
        self.auth.seal(derive::nonce(at), stored, &mut [])
    }

    /// Verifies the tier's tag of a chunk as it is stored.
    ///
    /// # Errors
    /// [`Error::Unauthentic`] where the tag does not hold.
    pub fn verify(&self, at: ChunkId, stored: &[u8], tag: &Tag) -> Result<(), Error> {
        self.auth.open(derive::nonce(at), stored, &mut [], tag)
    }

    /// XORs the tier's stream into `runs` of the chunk `bytes`, each ANDed with the bytes of its mask,
    /// which repeat from the start of the run. Runs that do not overlap may come in any order. Twice gives
    /// the bytes as they were.
    ///
    /// # Errors
    /// [`Error::Misuse`] where the runs do not lie within `bytes`. `bytes` is then unchanged.
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
            return Err(Error::Misuse { rule });
        }
        let mut stream = keystream(&self.stream, derive::nonce(at));
        let (piece, _) = scratch.split(PIECE + BLOCK, 0);
        for (run, mask) in runs {
            let mut start = run.start;
            while start < run.end {
                // Whole blocks, from the one that the first byte is in.
                let from = start / BLOCK * BLOCK;
                let end = run.end.min(from + PIECE);
                let len = (end - from).next_multiple_of(BLOCK);
                let piece = &mut piece[..len];
                piece.fill(0);
                stream.seek(from as u64);
                stream.apply_keystream(piece);
                let phase = (start - run.start) % mask.len();
                xor_masked(&mut bytes[start..end], &piece[start - from..], mask, phase);
                start = end;
            }
        }
        Ok(())
    }

    /// Shuffles the elements of `width` bytes that lie in `runs` of the chunk `bytes`, or brings them
    /// back. `tensor` is the number of the tensor that they belong to, and `chunk` that of the chunk in
    /// its file.
    ///
    /// # Errors
    /// [`Error::Misuse`] where the runs are not sorted, disjoint, non-empty ranges of `bytes` of whole
    /// elements, or `width` is not 1, 2, 4, 8 or 16. `bytes` is then unchanged.
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
            return Err(Error::Misuse { rule });
        }
        let id = ChunkId {
            file: tensor,
            chunk,
        };
        let draws = self.draws(derive::nonce(id), n_bytes / width);
        let (text, _) = scratch.split(n_bytes, 0);
        gather::gather(bytes, runs.iter().cloned(), text);
        match width {
            1 => exchange::<1>(text, &draws, direction),
            2 => exchange::<2>(text, &draws, direction),
            4 => exchange::<4>(text, &draws, direction),
            8 => exchange::<8>(text, &draws, direction),
            _ => exchange::<16>(text, &draws, direction),
        }
        gather::scatter(text, runs.iter().cloned(), bytes);
        Ok(())
    }

    /// The draws for `n` elements: one below n, one below n - 1, and so on to one below 2. Each is
    /// `floor(w * n / 2^32)` of the next number w of the stream with `w * n mod 2^32 >= 2^32 mod n`: so
    /// all are equally likely (Lemire, Fast Random Integer Generation in an Interval, 2019).
    fn draws(&self, nonce: [u8; 12], n: usize) -> Zeroizing<Vec<u32>> {
        let mut stream = keystream(&self.shuffle, nonce);
        let mut piece = Zeroizing::new([0; PIECE]);
        let mut draws = Zeroizing::new(Vec::with_capacity(n));
        let mut below = n as u64;
        while below >= 2 {
            piece.fill(0);
            stream.apply_keystream(&mut *piece);
            let (numbers, _) = piece.as_chunks::<4>();
            for number in numbers {
                let product = u64::from(u32::from_le_bytes(*number)) * below;
                let low = product & u64::from(u32::MAX);
                // 2^32 mod n is below n.
                if low < below && low < (1 << 32) % below {
                    continue;
                }
                draws.push((product >> 32) as u32);
                below -= 1;
                if below < 2 {
                    break;
                }
            }
        }
        draws
    }
}

impl fmt::Debug for TierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TierKey { .. } = self;
        f.write_str("TierKey(..)")
    }
}

/// AES-256-CTR from the block `nonce ‖ u32be(0)`.
fn keystream(cipher: &Aes256, nonce: [u8; 12]) -> Ctr<'_> {
    let mut block = [0; BLOCK];
    block[..12].copy_from_slice(&nonce);
    StreamCipherCoreWrapper::from_core(CtrCore::inner_iv_init(cipher, &block.into()))
}

/// `bytes ⊕= stream AND mask`, where the mask repeats, and `phase` is its byte for the first one.
fn xor_masked(bytes: &mut [u8], stream: &[u8], mask: [u8; 8], phase: usize) {
    let mask = u64::from_le_bytes(mask).rotate_right(8 * phase as u32);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    let (streams, _) = stream.as_chunks::<8>();
    for (word, stream) in words.iter_mut().zip(streams) {
        let masked = u64::from_le_bytes(*stream) & mask;
        *word = (u64::from_le_bytes(*word) ^ masked).to_le_bytes();
    }
    let last = &stream[words.len() * 8..];
    let mask = mask.to_le_bytes();
    for ((byte, stream), mask) in rest.iter_mut().zip(last).zip(mask) {
        *byte ^= stream & mask;
    }
}

/// Exchanges elements of `N` bytes as `draws` say (Fisher and Yates), or undoes that.
fn exchange<const N: usize>(text: &mut [u8], draws: &[u32], direction: Direction) {
    let (elements, _) = text.as_chunks_mut::<N>();
    let last = elements.len().saturating_sub(1);
    let mut exchange = |k: usize, draw: u32| elements.swap(last - k, draw as usize);
    let draws = draws.iter().copied().enumerate();
    match direction {
        Direction::Seal => draws.for_each(|(k, draw)| exchange(k, draw)),
        Direction::Open => draws.rev().for_each(|(k, draw)| exchange(k, draw)),
    }
}

#[cfg(test)]
mod tests;
