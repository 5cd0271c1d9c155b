//! Decoding matrices: files for models that are trained to answer with shares.

use std::path::Path;

use onnxseal_data::npy::{Stored, npz};
use onnxseal_data::{DataOptions, DataSet};

use crate::error::{Error, Result};
use crate::group::UNIT;
use crate::protect::targets;
use crate::table::RowKind;

/// The array of the file: `[R, K]`.
const NAME: &str = "decoding";

/// The most numbers of the matrix: 1 GiB.
const MAX_VALUES: usize = 1 << 28;

/// The class and the weight of each row of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoding {
    pub classes: u32,
    pub rows: Vec<RowKind>,
}

impl Decoding {
    pub fn draw(classes: u32, codewords: u32) -> Result<Decoding> {
        let rows = targets(classes, codewords)?;
        if rows.len() * classes as usize > MAX_VALUES {
            let text = "the matrix of so many classes is too large: take fewer codewords";
            return Err(Error::Usage(text.into()));
        }
        Ok(Decoding { classes, rows })
    }

    /// Encodes an `.npz` with the matrix: float32, `[rows, classes]`. It is a secret, because it
    /// reads the answers of the model.
    pub fn to_npz(&self) -> std::io::Result<Vec<u8>> {
        let n_classes = self.classes as usize;
        let mut matrix = vec![0_f32; self.rows.len() * n_classes];
        for (kind, row) in self.rows.iter().zip(matrix.chunks_exact_mut(n_classes)) {
            if let RowKind::Share { class, weight } = kind
                && let Some(value) = row.get_mut(*class as usize)
            {
                *value = (f64::from(*weight) * UNIT) as f32;
            }
        }
        npz(&[Stored {
            name: NAME.to_owned(),
            descr: "<f4",
            dims: vec![self.rows.len(), n_classes],
            bytes: matrix
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }])
    }

    pub fn read(path: &Path) -> Result<Decoding> {
        let no_targets = |reason: &str| {
            Error::Usage(format!(
                "{} has no targets: {reason}; `onnxseal labels targets` writes such files",
                path.display()
            ))
        };
        let data = DataSet::load(path, None, &DataOptions::default())?;
        let mut arrays = data.arrays.iter();
        let array = arrays.find(|array| array.name.as_deref() == Some(NAME));
        let array = array.ok_or_else(|| no_targets("an array called decoding is missing"))?;
        let [n_classes] = array.dims[..] else {
            return Err(no_targets("the array has not two axes"));
        };
        let row = |row: usize| {
            let values =
                (0..n_classes).map(|class| array.values.at(row * n_classes + class) / UNIT);
            let mut given = (0u32..).zip(values).filter(|(_, weight)| *weight != 0.0);
            match (given.next(), given.next()) {
                // Only whole numbers are weights; `attach` refuses those out of range.
                (Some((class, weight)), None) if weight.fract() == 0.0 => Ok(RowKind::Share {
                    class,
                    weight: weight as i32,
                }),
                _ => Err(no_targets("a row has not one weight")),
            }
        };
        Ok(Decoding {
            classes: n_classes as u32,
            rows: (0..data.n).map(row).collect::<Result<_>>()?,
        })
    }
}
