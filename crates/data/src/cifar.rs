//! CIFAR's binary version: records of a label and `[3, 32, 32]` bytes; of CIFAR-100 two labels, of which the last one,
//! the fine one, counts.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>

use crate::error::{Result, bad};

/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;

/// Rows of an image, and columns.
pub const SIDE: usize = 32;

/// Bytes of an image.
pub const PIXELS: usize = CHANNELS * SIDE * SIDE;

/// Labels of a record in a file of `len` bytes: one a byte, before the pixels.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) where these are no whole records.
pub fn n_labels(len: u64) -> Result<usize> {
    match len {
        0 => Err(bad("it has no samples")),
        len if len % (PIXELS as u64 + 1) == 0 => Ok(1),
        len if len % (PIXELS as u64 + 2) == 0 => Ok(2),
        _ => Err(bad(format!(
            "{len} bytes are no whole records of CIFAR-10 (3073) or CIFAR-100 (3074)"
        ))),
    }
}
