//! The progress of a long call.

/// Receives the progress of a call. Several threads call it.
pub trait Progress: Sync {
    /// The call begins, and will read `bytes` in all.
    fn begin(&self, bytes: u64) {
        let _ = bytes;
    }

    /// The call has dealt with `bytes` more.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Whether the call shall end early. It asks after each [`advance`](Progress::advance), and fails as
    /// cancelled. No output is left in part.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Receives progress and drops it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
