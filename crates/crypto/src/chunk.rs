//! The parts of a chunk: its targets, which are encrypted, and all other bytes, which are
//! authenticated with them. The ciphertext takes the place of the targets.
//!
//! ```text
//! chunk            | clear 0 | target 0 | clear 1 | target 1 | clear 2 |
//! plaintext        target 0 ‖ target 1
//! associated data  clear 0 ‖ clear 1 ‖ clear 2
//! ciphertext, tag  AES-256-GCM(chunk key, nonce(chunk), plaintext, associated data)
//! ```
//!
//! Contiguous bytes are used in place: the associated data of a chunk without targets or with one
//! that touches an end, and a single target.

use std::ops::Range;

use crate::error::Error;
use crate::gather::{self, Scratch};

/// Calls `work` on the bytes of a chunk in clear, and on its targets, which `work` changes. They
/// return to their places if it succeeds.
pub(crate) fn in_parts<T>(
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
            let buffer = &mut scratch.reserve(0, n_clear_bytes, 0)?.aad[..n_clear_bytes];
            let (head, rest) = bytes.split_at_mut(target.start);
            let (text, tail) = rest.split_at_mut(n_target_bytes);
            let clear = match (&*head, &*tail) {
                ([], clear) | (clear, []) => clear,
                (head, tail) => {
                    let (to_head, to_tail) = buffer.split_at_mut(head.len());
                    to_head.copy_from_slice(head);
                    to_tail.copy_from_slice(tail);
                    buffer
                }
            };
            work(clear, text)
        }
        _ => {
            let Scratch { text, aad, .. } = scratch.reserve(n_target_bytes, n_clear_bytes, 0)?;
            let (text, clear) = (&mut text[..n_target_bytes], &mut aad[..n_clear_bytes]);
            gather::gather(bytes, targets.iter().cloned(), text);
            gather::gather(bytes, gather::gaps(targets, bytes.len()), clear);
            let done = work(clear, text)?;
            gather::scatter(text, targets.iter().cloned(), bytes);
            Ok(done)
        }
    }
}

/// Calls `work` on the targets of a chunk alone, as [`in_parts`] does.
pub(crate) fn on_targets(
    bytes: &mut [u8],
    targets: &[Range<usize>],
    scratch: &mut Scratch,
    work: impl FnOnce(&mut [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let n_target_bytes = gather::check(targets, bytes.len())?;
    if let [target] = targets {
        return work(&mut bytes[target.clone()]);
    }
    let text = &mut scratch.reserve(n_target_bytes, 0, 0)?.text[..n_target_bytes];
    gather::gather(bytes, targets.iter().cloned(), text);
    work(text)?;
    gather::scatter(text, targets.iter().cloned(), bytes);
    Ok(())
}

#[cfg(test)]
mod tests;
