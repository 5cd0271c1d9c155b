//! CIFAR's binary version: records of a label and `[3, 32, 32]` bytes; of CIFAR-100 two labels, of which the fine one
//! counts.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>

use std::path::Path;

use crate::data::{Array, Layout, Raw, open, read_exactly};
use crate::engine::Values;
use crate::error::{Result, bad, io};

const PIXELS: usize = 3 * 32 * 32;

pub(super) fn read(path: &Path) -> Result<Raw> {
    let file = open(path)?;
    let len = file.metadata().map_err(io(path))?.len();
    let n_labels = match len {
        0 => return Err(bad(path, "it has no samples")),
        len if len % (PIXELS as u64 + 1) == 0 => 1,
        len if len % (PIXELS as u64 + 2) == 0 => 2,
        _ => {
            return Err(bad(
                path,
                format!("{len} bytes are no whole records of CIFAR-10 (3073) or CIFAR-100 (3074)"),
            ));
        }
    };
    let bytes = read_exactly(path, file, len)?;
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for record in bytes.chunks_exact(PIXELS + n_labels) {
        let (of_record, pixels) = record.split_at(n_labels);
        labels.push(of_record.last().map_or(0, |label| i64::from(*label)));
        values.extend(pixels.iter().map(|pixel| f32::from(*pixel)));
    }
    let array = Array {
        name: None,
        dims: vec![3, 32, 32],
        values: Values::F32(values),
        layout: Some(Layout::Nchw),
    };
    Ok((vec![array], Some(labels)))
}
