//! Arrays of numbers, from any format.

use std::io::ErrorKind;

use crate::error::{Fault, Result, bad};
use crate::room::Room;

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
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::I64(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn reserve(&mut self, n: usize, room: &mut Room) -> Result<(), Fault> {
        let n_bytes = (n as u64).saturating_mul(self.len_bytes());
        room.claim(n_bytes, "take fewer samples, or save it unpacked")?;
        let reserved = match self {
            Values::F32(values) => values.try_reserve_exact(n),
            Values::F64(values) => values.try_reserve_exact(n),
            Values::I64(values) => values.try_reserve_exact(n),
        };
        reserved.map_err(|_| Fault::Io(ErrorKind::OutOfMemory.into()))
    }

    fn len_bytes(&self) -> u64 {
        match self {
            Values::F32(_) => 4,
            Values::F64(_) | Values::I64(_) => 8,
        }
    }

    /// Adds numbers of the same type.
    pub(crate) fn append(&mut self, more: Values) {
        match (self, more) {
            (Values::F32(values), Values::F32(more)) => values.extend(more),
            (Values::F64(values), Values::F64(more)) => values.extend(more),
            (Values::I64(values), Values::I64(more)) => values.extend(more),
            _ => {}
        }
    }

    /// Returns number `i`, or 0 past the end.
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
    /// The name of its input, if known.
    pub name: Option<String>,
    /// Shape of one sample.
    pub dims: Vec<usize>,
    pub values: Values,
    /// The order of axes, if samples are images.
    pub layout: Option<Layout>,
}

/// The kept parts of a file: arrays, and labels if it has any. Each comes with its number of
/// samples in the file.
#[derive(Default)]
pub(crate) struct Raw {
    pub(crate) arrays: Vec<(usize, Array)>,
    pub(crate) labels: Option<(usize, Vec<i64>)>,
}

impl From<(usize, Array)> for Raw {
    fn from(array: (usize, Array)) -> Raw {
        Raw {
            arrays: vec![array],
            labels: None,
        }
    }
}

pub(crate) fn labels_of(array: &Array) -> Result<Vec<i64>, Fault> {
    if array.dims.iter().product::<usize>() != 1 {
        return Err(bad(format!(
            "labels have one number a sample, not {:?}",
            array.dims
        )));
    }
    let rows = 0..array.values.len();
    rows.map(|row| label(row, array.values.at(row))).collect()
}

/// Converts a number to the label of a row.
pub(crate) fn label(row: usize, number: f64) -> Result<i64, Fault> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        Ok(number as i64)
    } else {
        Err(bad(format!("row {row}: label {number} is no whole number")))
    }
}

/// Returns these of all rows, each of `width` values.
pub(crate) fn picked<T: Clone>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
    let row = |row: &usize| values.get(row * width..(row + 1) * width);
    let rows = rows.iter().filter_map(row);
    rows.flatten().cloned().collect()
}
