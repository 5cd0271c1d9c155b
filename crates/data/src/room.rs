//! Limits what a file may claim, in proportion to its bytes.

use crate::error::{Fault, bad};

/// Bytes of memory that a file of any length may claim.
const FREE_BYTES: u64 = 64 << 20;

/// Bytes of memory that it may claim for each of its own: enough for 8-bit pixels that are packed
/// to a sixteenth and read as 64-bit integers.
const BYTES_A_BYTE: u64 = 128;

pub(crate) const MAX_BYTES: u64 = 16 << 30;

/// The most bytes that deflate makes from one. An archive that exceeds it has overlapping entries.
const UNPACKED_A_BYTE: u64 = 1032;

/// The claims of a file so far. It may claim 64 MiB of memory, and 128 bytes for each of its own.
#[derive(Debug)]
pub struct Room {
    len: u64,
    claimed: u64,
    unpacked: u64,
}

impl Room {
    pub fn of(len: u64) -> Room {
        Room {
            len,
            claimed: 0,
            unpacked: 0,
        }
    }

    /// Claims memory before it is allocated. The `hint` says what to do if that exceeds the limit.
    pub fn claim(&mut self, n_bytes: u64, hint: &str) -> Result<(), Fault> {
        let most = self.len.saturating_mul(BYTES_A_BYTE);
        let most = most.saturating_add(FREE_BYTES).min(MAX_BYTES);
        self.claimed = self.claimed.saturating_add(n_bytes);
        if self.claimed <= most {
            return Ok(());
        }
        Err(bad(format!(
            "it takes {} bytes of memory, and a file of {} bytes may take {most} (limit): {hint}",
            self.claimed, self.len
        )))
    }

    /// Counts the bytes that an archive unpacks to.
    ///
    /// # Errors
    /// [`Fault::Malformed`] if so few packed bytes cannot give so many.
    pub fn unpack(&mut self, n_bytes: u64) -> Result<(), Fault> {
        let most = self.len.saturating_mul(UNPACKED_A_BYTE);
        self.unpacked = self.unpacked.saturating_add(n_bytes);
        if self.unpacked <= most {
            return Ok(());
        }
        Err(bad(format!(
            "it says that it has {} bytes of numbers, and its {} bytes unpack to no more than {most} \
             (limit)",
            self.unpacked, self.len
        )))
    }
}
