//! The progress of a long call.

/// Receives the progress of a call. Several threads call it.
pub trait Progress: Sync {
    /// The call begins, and will read `bytes` bytes in total.
    fn begin(&self, _bytes: u64) {}

    /// The call has processed `bytes` more bytes.
    fn advance(&self, _bytes: u64) {}

    /// Returns whether to cancel. The call asks after each [`advance`](Progress::advance), and then
    /// fails as cancelled, without leaving incomplete outputs.
    fn is_cancelled(&self) -> bool {
        false
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
