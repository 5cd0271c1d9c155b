//! How much a file may claim: in proportion to the bytes that it has.

use crate::error::{Fault, bad};

/// Bytes of memory that a file of any length may claim.
const FREE_BYTES: u64 = 64 << 20;

/// Bytes of memory that it may claim for each of its own: enough for pixels of 8 bits that are packed
/// to a sixteenth, and read as whole numbers of 64 bits.
const BYTES_A_BYTE: u64 = 128;

/// Bytes of a data set in memory, at most.
pub(crate) const MAX_BYTES: u64 = 16 << 30;

/// Bytes that deflate makes of one, at most. An archive of more has entries that lie in the same
/// bytes.
const UNPACKED_A_BYTE: u64 = 1032;

/// What a file has claimed of what it may: 64 MiB of memory, and 128 bytes for each of its own.
#[derive(Debug)]
pub struct Room {
    len: u64,
    claimed: u64,
    unpacked: u64,
}

impl Room {
    /// That of a file of `len` bytes.
    pub fn of(len: u64) -> Room {
        Room {
            len,
            claimed: 0,
            unpacked: 0,
        }
    }

    /// Claims memory, before it is allocated. The `hint` says what to do where the file may not have
    /// so much.
    ///
    /// # Errors
    /// [`Fault::Malformed`] where the file may not have so much.
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

    /// Counts what an archive unpacks to.
    ///
    /// # Errors
    /// [`Fault::Malformed`] where so few bytes cannot be so many.
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
