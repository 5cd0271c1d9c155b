//! `onnxseal labels targets`, and what `onnxseal labels protect --targets` reads.

use std::path::Path;

use anyhow::{Context as _, Result};
use onnxseal_core::{Readers, write_whole};
use onnxseal_data::npy::{Stored, npz};
use onnxseal_data::{DataOptions, DataSet};
use onnxseal_labels::shares::UNIT;
use onnxseal_labels::{RowKind, targets};

use crate::cli::labels::Targets;
use crate::exit::Usage;
use crate::text::note;

/// The array of the file: `[R, K]`.
const NAME: &str = "decoding";

/// Numbers of the matrix, at most: 1 GiB.
const MAX_VALUES: usize = 1 << 28;

/// Writes a decoding matrix for a training loop.
pub fn run(args: &Targets, quiet: bool) -> Result<()> {
    let (n_classes, kinds) = (
        args.classes as usize,
        targets(args.classes, args.codewords)?,
    );
    if kinds.len() * n_classes > MAX_VALUES {
        let text = "the matrix of so many classes is too large: take fewer codewords";
        return Err(Usage(text.into()).into());
    }
    let mut matrix = vec![0_f32; kinds.len() * n_classes];
    for (kind, row) in kinds.iter().zip(matrix.chunks_exact_mut(n_classes)) {
        if let RowKind::Share { class, weight } = kind
            && let Some(value) = row.get_mut(*class as usize)
        {
            *value = (f64::from(*weight) * UNIT) as f32;
        }
    }
    let stored = Stored {
        name: NAME.to_owned(),
        descr: "<f4",
        dims: vec![kinds.len(), n_classes],
        bytes: matrix
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    };
    let cannot_write = || format!("cannot write {}", args.output.display());
    let bytes = npz(&[stored]).with_context(cannot_write)?;
    write_whole(&args.output, &bytes, args.force, Readers::Owner).with_context(cannot_write)?;
    if !quiet {
        note(&format!(
            "wrote {}: {} rows for {n_classes} classes; keep it secret, it reads the answers of the model",
            args.output.display(),
            kinds.len()
        ));
    }
    Ok(())
}

/// Reads a decoding matrix: the number of classes, and the rows.
pub fn read(path: &Path) -> Result<(u32, Vec<RowKind>)> {
    let no_targets = |reason: &str| {
        Usage(format!(
            "{} has no targets: {reason}; `onnxseal labels targets` writes such files",
            path.display()
        ))
    };
    let data = DataSet::load(path, None, &DataOptions::default())?;
    let array = data
        .arrays
        .iter()
        .find(|array| array.name.as_deref() == Some(NAME));
    let array = array.ok_or_else(|| no_targets("an array called decoding is missing"))?;
    let [n_classes] = array.dims[..] else {
        return Err(no_targets("the array has not two axes").into());
    };
    let row = |row: usize| {
        let values = (0..n_classes).map(|class| array.values.at(row * n_classes + class) / UNIT);
        let mut given = (0u32..).zip(values).filter(|(_, weight)| *weight != 0.0);
        match (given.next(), given.next()) {
            // No other number is a weight: the library refuses those out of range.
            (Some((class, weight)), None) if weight.fract() == 0.0 && weight.abs() < 128.0 => {
                Ok(RowKind::Share {
                    class,
                    weight: weight as i8,
                })
            }
            _ => Err(no_targets("a row has not one weight, in steps of 1/64")),
        }
    };
    let rows = (0..data.n)
        .map(row)
        .collect::<std::result::Result<_, _>>()?;
    Ok((n_classes as u32, rows))
}
