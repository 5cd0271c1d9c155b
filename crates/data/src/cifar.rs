//! CIFAR's binary version: records of a label and `[3, 32, 32]` bytes. CIFAR-100 has two labels, of
//! which the last, the fine one, counts.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>

use std::fs::File;
use std::io::BufReader;

use crate::array::{Array, Layout, Raw, Values};
use crate::error::{Fault, Result, bad};
use crate::options::DataOptions;
use crate::room::Room;

/// Channels of an image: red, green, blue.
pub const CHANNELS: usize = 3;

/// Rows of an image, and columns.
pub const SIDE: usize = 32;

/// Bytes of an image.
pub const PIXELS: usize = CHANNELS * SIDE * SIDE;

/// Returns the number of labels in a record of a file of `len` bytes; each is a byte before the
/// pixels.
///
/// # Errors
/// [`Fault::Malformed`] if the file does not consist of whole records.
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

pub(crate) fn read(file: File, options: &DataOptions) -> Result<Raw, Fault> {
    let len = file.metadata()?.len();
    let n_labels = n_labels(len)?;
    let record_bytes = PIXELS + n_labels;
    let n = usize::try_from(len / record_bytes as u64).unwrap_or(usize::MAX);
    let mut room = Room::of(len);
    let rows = options.rows(n);
    let (mut values, mut labels) = (Values::F32(Vec::new()), Vec::new());
    values.reserve(&rows, PIXELS, &mut room)?;
    let mut from = BufReader::new(file);
    rows.read(&mut from, (record_bytes as u64, record_bytes), |bytes| {
        for record in bytes.chunks_exact(record_bytes) {
            let (of_record, pixels) = record.split_at(n_labels);
            labels.push(of_record.last().map_or(0, |label| i64::from(*label)));
            let pixels = pixels.iter().map(|pixel| f32::from(*pixel));
            values.append(Values::F32(pixels.collect()));
        }
    })?;
    let array = Array {
        name: None,
        dims: vec![CHANNELS, SIDE, SIDE],
        values,
        layout: Some(Layout::Nchw),
    };
    Ok(Raw {
        arrays: vec![(n, array)],
        labels: Some((n, labels)),
    })
}
