//! CIFAR's binary version.

use std::path::Path;

use onnxseal_data::cifar::{self, CHANNELS, PIXELS, SIDE};

use crate::data::{Array, Layout, Raw, of_format, open, read_exactly};
use crate::engine::Values;
use crate::error::{Result, io};

pub(super) fn read(path: &Path) -> Result<Raw> {
    let file = open(path)?;
    let len = file.metadata().map_err(io(path))?.len();
    let n_labels = cifar::n_labels(len).map_err(of_format(path))?;
    let bytes = read_exactly(path, file, len)?;
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
