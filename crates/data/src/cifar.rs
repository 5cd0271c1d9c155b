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
use crate::rows::read_rows;

/// Channels, rows and columns of an image.
const DIMS: [usize; 3] = [3, 32, 32];

const PIXELS: usize = DIMS[0] * DIMS[1] * DIMS[2];

pub(crate) fn read(file: File, options: &DataOptions) -> Result<Raw, Fault> {
    let len = file.metadata()?.len();
    // Each label is a byte before the pixels.
    let is_whole = |n_labels: &usize| len.is_multiple_of((PIXELS + n_labels) as u64);
    let n_labels = match [1, 2].into_iter().find(is_whole) {
        _ if len == 0 => return Err(bad("it has no samples")),
        Some(n_labels) => n_labels,
        None => {
            return Err(bad(format!(
                "{len} bytes are no whole records of CIFAR-10 (3073) or CIFAR-100 (3074)"
            )));
        }
    };
    let record_bytes = PIXELS + n_labels;
    let n = usize::try_from(len / record_bytes as u64).unwrap_or(usize::MAX);
    let mut room = Room::of(len);
    let (mut values, mut labels) = (Values::F32(Vec::new()), Vec::new());
    values.reserve(options.n_kept(n).saturating_mul(PIXELS), &mut room)?;
    let (mut from, rows) = (BufReader::new(file), (n, record_bytes as u64));
    read_rows(&mut from, rows, record_bytes, options, |bytes| {
        for record in bytes.chunks_exact(record_bytes) {
            let (of_record, pixels) = record.split_at(n_labels);
            labels.extend(of_record.last().map(|label| i64::from(*label)));
            let pixels = pixels.iter().map(|pixel| f32::from(*pixel));
            values.append(Values::F32(pixels.collect()));
        }
    })?;
    let array = Array {
        name: None,
        dims: DIMS.to_vec(),
        values,
        layout: Some(Layout::Nchw),
    };
    Ok(Raw {
        arrays: vec![(n, array)],
        labels: Some((n, labels)),
    })
}
