//! `onnxseal labels decode`

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use onnxseal_data::{DataOptions, DataSet};
use onnxseal_labels::{Decoder, Table, UserKey, classes, softmax};
use serde_json::json;

use super::inspect::table;
use crate::cli::labels::Decode;
use crate::exit::usage;
use crate::render;

pub fn run(args: &Decode) -> Result<()> {
    let table = table(&args.model)?;
    let key = args.identities.open(&args.key, "--key", UserKey::read)?;
    let decoder = Decoder::new(&table, &key)?;
    let (values, shape) = answers(&args.answers, &table)?;
    let logits = decoder.decode(&values, &shape)?;
    let n = decoder.classes();
    let inner: usize = shape.iter().skip(2).product();
    if table.axis() == 1 && inner != 1 {
        return Err(usage(
            "the answers have several positions per sample, which the part after the layer combines: use a session with a label key",
        ));
    }
    let (found, probabilities) = (classes(&logits, n), softmax(&logits, n));
    let rows = probabilities.chunks_exact(n.max(1));
    if args.json {
        let rows = found
            .iter()
            .zip(rows)
            .map(|(class, row)| json!({"class": class, "probabilities": row}));
        return render::json(&rows.collect::<Vec<_>>());
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    writeln!(out, "class,probability")?;
    for (class, row) in found.iter().zip(rows) {
        writeln!(
            out,
            "{class},{}",
            row.get(*class).copied().unwrap_or_default()
        )?;
    }
    out.flush()?;
    Ok(())
}

fn answers(path: &Path, table: &Table) -> Result<(Vec<f32>, Vec<usize>)> {
    let data = DataSet::load(path, None, &DataOptions::default())?;
    let named = data
        .arrays
        .iter()
        .find(|array| array.name.as_deref() == Some(table.answers()));
    let only = match &data.arrays[..] {
        [one] if one.name.is_none() => Some(one),
        _ => None,
    };
    let array = named.or(only).ok_or_else(|| {
        usage(format!(
            "{} has no array called {:?}, as the model's answers are",
            path.display(),
            table.answers()
        ))
    })?;
    let values = (0..array.values.len()).map(|i| array.values.at(i) as f32);
    Ok((values.collect(), [&[data.n], &array.dims[..]].concat()))
}
