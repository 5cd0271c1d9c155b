//! Arrays of numbers, as every format gives them.

use std::io::Read;

use crate::error::{Fault, Result, bad};

/// Bytes of a data set in memory, at most.
pub(crate) const MAX_BYTES: u64 = 16 << 30;

/// The order of an image's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels, rows, columns.
    Nchw,
    /// Rows, columns, channels.
    Nhwc,
}

/// Numbers of all samples, one sample after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Whole numbers.
    I64(Vec<i64>),
}

impl Values {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::I64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number `i`; 0 past the end.
    pub fn at(&self, i: usize) -> f64 {
        match self {
            Values::F32(values) => values.get(i).map_or(0.0, |value| f64::from(*value)),
            Values::F64(values) => values.get(i).copied().unwrap_or(0.0),
            Values::I64(values) => values.get(i).map_or(0.0, |value| *value as f64),
        }
    }
}

/// One array of a data set, all samples.
#[derive(Clone, Debug)]
pub struct Array {
    /// Its name, where it has one: that of the input it is for.
    pub name: Option<String>,
    /// Shape of one sample.
    pub dims: Vec<usize>,
    /// All samples, one after the other.
    pub values: Values,
    /// The order of axes, where samples are images.
    pub layout: Option<Layout>,
}

/// Arrays, and labels if the file has any.
pub(crate) type Raw = (Vec<Array>, Option<Vec<i64>>);

/// An array as labels.
pub(crate) fn labels_of(array: &Array) -> Result<Vec<i64>, Fault> {
    if array.dims.iter().product::<usize>() != 1 {
        return Err(bad(format!(
            "labels have one number a sample, not {:?}",
            array.dims
        )));
    }
    let label = |i: usize| {
        let value = array.values.at(i);
        if value.fract() == 0.0 && value.abs() < 1e15 {
            Ok(value as i64)
        } else {
            Err(bad(format!("label {value} of row {i} is no whole number")))
        }
    };
    (0..array.values.len()).map(label).collect()
}

/// Reads `n_bytes`, and claims no more memory than there are.
pub(crate) fn read_exactly(from: impl Read, n_bytes: u64) -> Result<Vec<u8>, Fault> {
    if n_bytes > MAX_BYTES {
        return Err(bad(format!(
            "it says that it has {n_bytes} bytes of numbers (limit {MAX_BYTES})"
        )));
    }
    let mut bytes = Vec::new();
    from.take(n_bytes).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < n_bytes {
        return Err(bad(format!(
            "it ends after {} of {n_bytes} bytes of numbers",
            bytes.len()
        )));
    }
    Ok(bytes)
}
