//! Seals and opens one chunk: encrypts its targets, and authenticates all its bytes.
//!
//! ```text
//! chunk            | clear 0 | target 0 | clear 1 | target 1 | clear 2 |
//! plaintext        target 0 ‖ target 1
//! associated data  clear 0 ‖ clear 1 ‖ clear 2
//! ```
//!
//! Contiguous bytes are used in place: the associated data of a chunk without targets or with one
//! that touches an end, and a single target when sealing. Opening always decrypts into the scratch
//! buffer, so that only authentic bytes reach the chunk.

use std::ops::Range;

use crate::backend::{Aead, Ctr, Tag};
use crate::derive::{self, ChunkId};
use crate::error::Error;
use crate::gather::{self, Scratch};

/// `ciphertext, tag = AES-256-GCM(chunk key, nonce(at), targets, other bytes)`, the ciphertext in
/// the place of the targets.
pub(crate) fn seal(
    aead: &impl Aead,
    at: ChunkId,
    bytes: &mut [u8],
    targets: &[Range<usize>],
    scratch: &mut Scratch,
) -> Result<Tag, Error> {
    let n_target_bytes = gather::check(targets, bytes.len())?;
    let n_clear_bytes = bytes.len() - n_target_bytes;
    let nonce = derive::nonce(at);
    match targets {
        [] => aead.seal(nonce, bytes, &mut []),
        [target] => {
            let (_, buffer) = scratch.split(0, n_clear_bytes)?;
            let (head, rest) = bytes.split_at_mut(target.start);
            let (text, tail) = rest.split_at_mut(n_target_bytes);
            aead.seal(nonce, gather::join(head, tail, buffer), text)
        }
        _ => {
            let (text, aad) = scratch.split(n_target_bytes, n_clear_bytes)?;
            gather::gather(bytes, targets.iter().cloned(), text);
            gather::gather(bytes, gather::gaps(targets, bytes.len()), aad);
            let tag = aead.seal(nonce, aad, text)?;
            gather::scatter(text, targets.iter().cloned(), bytes);
            Ok(tag)
        }
    }
}

/// Decrypts the targets in place, if the tag is valid. Otherwise they contain no plaintext, but may
/// be overwritten.
pub(crate) fn open(
    aead: &impl Aead,
    at: ChunkId,
    bytes: &mut [u8],
    targets: &[Range<usize>],
    tag: &Tag,
    scratch: &mut Scratch,
) -> Result<(), Error> {
    let n_target_bytes = gather::check(targets, bytes.len())?;
    let n_clear_bytes = bytes.len() - n_target_bytes;
    let nonce = derive::nonce(at);
    match targets {
        [] => aead.open(nonce, bytes, &mut [], tag),
        [target] => {
            let (_, buffer) = scratch.split(0, n_clear_bytes)?;
            let (head, rest) = bytes.split_at_mut(target.start);
            let (text, tail) = rest.split_at_mut(n_target_bytes);
            aead.open(nonce, gather::join(head, tail, buffer), text, tag)
        }
        _ => {
            let (text, aad) = scratch.split(n_target_bytes, n_clear_bytes)?;
            gather::gather(bytes, targets.iter().cloned(), text);
            gather::gather(bytes, gather::gaps(targets, bytes.len()), aad);
            aead.open(nonce, aad, text, tag)?;
            gather::scatter(text, targets.iter().cloned(), bytes);
            Ok(())
        }
    }
}

/// Encrypts or decrypts the targets of a chunk in place as [`seal`] does, without a tag:
/// AES-256-GCM is counter mode from counter 2 on.
pub(crate) fn apply(
    cipher: &impl Ctr,
    at: ChunkId,
    bytes: &mut [u8],
    targets: &[Range<usize>],
    scratch: &mut Scratch,
) -> Result<(), Error> {
    let n_target_bytes = gather::check(targets, bytes.len())?;
    let nonce = derive::nonce(at);
    match targets {
        [] => Ok(()),
        [target] => cipher.apply(nonce, 2, &mut bytes[target.clone()]),
        _ => {
            let (text, _) = scratch.split(n_target_bytes, 0)?;
            gather::gather(bytes, targets.iter().cloned(), text);
            cipher.apply(nonce, 2, text)?;
            gather::scatter(text, targets.iter().cloned(), bytes);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
