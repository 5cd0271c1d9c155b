//! How far a long call is.

use std::io;

use crate::digest::Digests;
#[cfg(feature = "protect")]
use crate::report::Volume;

/// Told of the bytes that a call has dealt with; called from several threads.
pub trait Progress: Sync {
    /// The call will deal with `bytes` in all.
    fn begin(&self, bytes: u64) {
        let _ = bytes;
    }

    /// `bytes` more have been dealt with.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Whether the call shall end before it is done: asked after each [`advance`](Progress::advance).
    /// It then fails with [`Error::Cancelled`](crate::Error::Cancelled), and no output appears.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// The call will encrypt this much of the weights. Called by those that plan, before
    /// [`ready`](Progress::ready).
    #[cfg(feature = "protect")]
    fn planned(&self, weights: &Volume) {
        let _ = weights;
    }

    /// Whether the call shall take digests of what it reads and writes, for
    /// [`ready`](Progress::ready).
    fn wants_digests(&self) -> bool {
        false
    }

    /// All outputs are written, and get their names once this has returned: who keeps a record of
    /// what came to be writes it now. Called only if digests are wanted; by
    /// [`verify`](crate::verify()) too, if it has read all files.
    ///
    /// # Errors
    /// An error ends the call; no output appears.
    fn ready(&self, digests: &Digests) -> io::Result<()> {
        let _ = digests;
        Ok(())
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
