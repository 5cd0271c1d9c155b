//! How far a long call is.

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
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
