//! Seals and opens one chunk: encrypts its targets, and authenticates all its bytes.
//!
//! ```text
//! chunk            | clear 0 | target 0 | clear 1 | target 1 | clear 2 |
//! plaintext        target 0 ‖ target 1
//! associated data  clear 0 ‖ clear 1 ‖ clear 2
//! ```
//!
//! Contiguous bytes are used in place: the associated data of a chunk without targets or with one
//! that touches an end, and a single target.

use std::ops::Range;

use crate::backend::{Ctr, Gcm, Tag};
use crate::derive::{self, ChunkId};
use crate::error::Error;
use crate::gather::{self, Scratch};

/// `ciphertext, tag = AES-256-GCM(chunk key, nonce(at), targets, other bytes)`, the ciphertext in
/// the place of the targets.
pub(crate) fn seal(
    gcm: &Gcm,
    at: ChunkId,
    bytes: &mut [u8],
    targets: &[Range<usize>],
    scratch: &mut Scratch,
) -> Result<Tag, Error> {
    let nonce = derive::nonce(at);
    in_parts(bytes, targets, scratch, |clear, text| {
        gcm.seal(nonce, clear, text)
    })
}

/// Decrypts the targets in place, if the tag is valid. Otherwise they contain no plaintext, but may
/// be overwritten.
pub(crate) fn open(
    gcm: &Gcm,
    at: ChunkId,
    bytes: &mut [u8],
    targets: &[Range<usize>],
    tag: &Tag,
    scratch: &mut Scratch,
) -> Result<(), Error> {
    let nonce = derive::nonce(at);
    in_parts(bytes, targets, scratch, |clear, text| {
        gcm.open(nonce, clear, text, tag)
    })
}

/// Encrypts or decrypts the targets of a chunk in place as [`seal`] does, without a tag:
/// AES-256-GCM is counter mode from counter 2 on.
pub(crate) fn apply(
    ctr: &Ctr,
    at: ChunkId,
    bytes: &mut [u8],
    targets: &[Range<usize>],
    scratch: &mut Scratch,
) -> Result<(), Error> {
    let n_target_bytes = gather::check(targets, bytes.len())?;
    let nonce = derive::nonce(at);
    match targets {
        [] => Ok(()),
        [target] => ctr.apply(nonce, 2, &mut bytes[target.clone()]),
        _ => {
            let (text, _) = scratch.split(n_target_bytes, 0)?;
            gather::gather(bytes, targets.iter().cloned(), text);
            ctr.apply(nonce, 2, text)?;
            gather::scatter(text, targets.iter().cloned(), bytes);
            Ok(())
        }
    }
}

/// Calls `work` on the bytes of a chunk in clear, and on its targets, which `work` changes. They
/// return to their places if it succeeds.
fn in_parts<T>(
    bytes: &mut [u8],
    targets: &[Range<usize>],
    scratch: &mut Scratch,
    work: impl FnOnce(&[u8], &mut [u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let n_target_bytes = gather::check(targets, bytes.len())?;
    let n_clear_bytes = bytes.len() - n_target_bytes;
    match targets {
        [] => work(bytes, &mut []),
        [target] => {
            let (_, buffer) = scratch.split(0, n_clear_bytes)?;
            let (head, rest) = bytes.split_at_mut(target.start);
            let (text, tail) = rest.split_at_mut(n_target_bytes);
            work(gather::join(head, tail, buffer), text)
        }
        _ => {
            let (text, clear) = scratch.split(n_target_bytes, n_clear_bytes)?;
            gather::gather(bytes, targets.iter().cloned(), text);
            gather::gather(bytes, gather::gaps(targets, bytes.len()), clear);
            let done = work(clear, text)?;
            gather::scatter(text, targets.iter().cloned(), bytes);
            Ok(done)
        }
    }
}

#[cfg(test)]
mod tests;
