//! CIFAR's binary version: records of a label and `[3, 32, 32]` bytes; of CIFAR-100 two labels, of which the last one,
//! the fine one, counts.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>

use std::fs::File;

use crate::array::{Array, Layout, Raw, Values, read_exactly};
use crate::error::{Fault, Result, bad};

/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;

/// Rows of an image, and columns.
pub const SIDE: usize = 32;

/// Bytes of an image.
pub const PIXELS: usize = CHANNELS * SIDE * SIDE;

/// Labels of a record in a file of `len` bytes: one a byte, before the pixels.
///
/// # Errors
/// [`Fault::Malformed`] where these are no whole records.
pub fn n_labels(len: u64) -> Result<usize, Fault> {
    match len {
        0 => Err(bad("it has no samples")),
        len if len % (PIXELS as u64 + 1) == 0 => Ok(1),
        len if len % (PIXELS as u64 + 2) == 0 => Ok(2),
        _ => Err(bad(format!(
            "{len} bytes are no whole records of CIFAR-10 (3073) or CIFAR-100 (3074)"
        ))),
    }
}

pub(crate) fn read(file: File) -> Result<Raw, Fault> {
    let len = file.metadata()?.len();
    let n_labels = n_labels(len)?;
    let bytes = read_exactly(file, len)?;
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for record in bytes.chunks_exact(PIXELS + n_labels) {
        let (of_record, pixels) = record.split_at(n_labels);
        labels.push(of_record.last().map_or(0, |label| i64::from(*label)));
        values.extend(pixels.iter().map(|pixel| f32::from(*pixel)));
    }
    let array = Array {
        name: None,
        dims: vec![CHANNELS, SIDE, SIDE],
        values: Values::F32(values),
        layout: Some(Layout::Nchw),
    };
    Ok((vec![array], Some(labels)))
}
