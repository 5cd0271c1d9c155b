//! CSV: one row per sample, with its label in one column.

use std::fs::File;

use csv::{ReaderBuilder, StringRecord};

use crate::array::{self, Array, Raw, Values, picked};
use crate::error::{Fault, Result, bad};
use crate::options::DataOptions;

/// The name of the column of labels.
const LABEL: &str = "label";

pub(crate) fn read(file: File, options: &DataOptions) -> Result<Raw, Fault> {
    let (named, rows) = rows(file)?;
    let label = named.or(options.label_first.then_some(0));
    let (mut labels, mut values) = (Vec::new(), Vec::new());
    let (mut n, mut width, mut is_whole) = (0, 0, true);
    for (row, record) in rows {
        let record = record?;
        n = row + 1;
        width = record.len() - usize::from(label.is_some_and(|label| label < record.len()));
        for (column, text) in record.iter().enumerate() {
            let number = number(row, column, text)?;
            if label == Some(column) {
                labels.push(array::label(row, number)?);
            } else {
                is_whole &= number.fract() == 0.0 && number.abs() < 1e15;
                values.push(number);
            }
        }
    }
    if let Some(kept) = options.kept(n) {
        values = picked(&values, &kept, width);
    }
    if width == 0 {
        return Err(bad("its rows have no values"));
    }
    // Keep whole numbers: tokens may have more digits than 32-bit floats.
    let values = if is_whole {
        Values::I64(values.into_iter().map(|value| value as i64).collect())
    } else {
        Values::F64(values)
    };
    let array = Array {
        name: None,
        dims: vec![width],
        values,
        layout: None,
    };
    Ok(Raw {
        arrays: vec![(n, array)],
        labels: label.map(|_| (n, options.of(labels))),
    })
}

/// Reads only labels: the column `label`, or the only column.
pub(crate) fn read_labels(file: File, options: &DataOptions) -> Result<(usize, Vec<i64>), Fault> {
    let (named, rows) = rows(file)?;
    let mut labels = Vec::new();
    for (row, record) in rows {
        let record = record?;
        let column = match (named, record.len()) {
            (Some(column), _) => column,
            (None, 1) => 0,
            _ => return Err(bad("it has several columns, and none is called label")),
        };
        let number = number(row, column, record.get(column).unwrap_or_default())?;
        labels.push(array::label(row, number)?);
    }
    Ok((labels.len(), options.of(labels)))
}

type Row = Result<StringRecord, Fault>;

/// Returns the column called `label`, and all rows with their numbers, read one by one, because text
/// takes more memory than its numbers. A first row with anything other than numbers is a header.
fn rows(file: File) -> Result<(Option<usize>, impl Iterator<Item = (usize, Row)>), Fault> {
    let mut table = ReaderBuilder::new();
    table.has_headers(false).trim(csv::Trim::All);
    let rows = table.from_reader(file).into_records();
    let mut rows = rows.map(|row| row.map_err(unreadable)).peekable();
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let is_header = |row: &Row| row.as_ref().is_ok_and(|row| !row.iter().all(is_number));
    let header = rows.next_if(is_header).transpose()?;
    let is_label = |name: &str| name.trim().eq_ignore_ascii_case(LABEL);
    match rows.peek() {
        None => Err(bad("it has no samples")),
        Some(_) => Ok((
            header.and_then(|header| header.iter().position(is_label)),
            rows.enumerate(),
        )),
    }
}

fn unreadable(error: csv::Error) -> Fault {
    if error.is_io_error() {
        Fault::Io(error.into())
    } else {
        bad(error.to_string())
    }
}

fn number(row: usize, column: usize, text: &str) -> Result<f64, Fault> {
    let number: std::result::Result<f64, _> = text.parse();
    number.map_err(|_| {
        bad(format!(
            "row {row}, column {column}: {:?} is no number",
            text.chars().take(40).collect::<String>()
        ))
    })
}
