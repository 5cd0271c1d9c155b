//! CSV: one row a sample, one column its label.

use std::fs::File;

use csv::{ReaderBuilder, StringRecord};

use crate::array::{Array, Raw, Values};
use crate::error::{Fault, Result, bad};

/// The name of the column of labels.
const LABEL: &str = "label";

pub(crate) fn read(file: File, label_first: bool) -> Result<Raw, Fault> {
    let (header, rows) = records(file)?;
    let named = header.as_ref().and_then(|header| {
        header
            .iter()
            .position(|name| name.trim().eq_ignore_ascii_case(LABEL))
    });
    let label = match (named, label_first) {
        (Some(column), _) => Some(column),
        (None, true) => Some(0),
        (None, false) => None,
    };
    let mut labels = Vec::new();
    let mut values = Vec::new();
    let mut width = 0;
    for (row, record) in rows.iter().enumerate() {
        width = record.len() - usize::from(label.is_some_and(|label| label < record.len()));
        for (column, text) in record.iter().enumerate() {
            let number = number(row, column, text)?;
            if label == Some(column) {
                labels.push(whole(row, number)?)
            } else {
                values.push(number)
            }
        }
    }
    if width == 0 {
        return Err(bad("its rows have no values"));
    }
    // Whole numbers stay what they are: tokens have more digits than 32-bit floats.
    let values = if values
        .iter()
        .all(|value| value.fract() == 0.0 && value.abs() < 1e15)
    {
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
    Ok((vec![array], label.map(|_| labels)))
}

/// Reads labels alone: the column `label`, or the only one.
pub(crate) fn read_labels(file: File) -> Result<Vec<i64>, Fault> {
    let (header, rows) = records(file)?;
    let named = header.as_ref().and_then(|header| {
        header
            .iter()
            .position(|name| name.trim().eq_ignore_ascii_case(LABEL))
    });
    let column = match (named, rows.first().map(StringRecord::len)) {
        (Some(column), _) => column,
        (None, Some(1)) => 0,
        _ => {
            return Err(bad("it has several columns, and none is called label"));
        }
    };
    let label = |(row, record): (usize, &StringRecord)| {
        let number = number(row, column, record.get(column).unwrap_or_default())?;
        whole(row, number)
    };
    rows.iter().enumerate().map(label).collect()
}

/// The header, where the first row has something that is no number, and the rows.
fn records(file: File) -> Result<(Option<StringRecord>, Vec<StringRecord>), Fault> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(file);
    let failed = |error: csv::Error| {
        if error.is_io_error() {
            Fault::Io(error.into())
        } else {
            bad(error.to_string())
        }
    };
    let mut rows = reader
        .records()
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(failed)?;
    let is_header = rows
        .first()
        .is_some_and(|row| row.iter().any(|text| text.parse::<f64>().is_err()));
    let header = is_header.then(|| rows.remove(0));
    if rows.is_empty() {
        Err(bad("it has no samples"))
    } else {
        Ok((header, rows))
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

fn whole(row: usize, number: f64) -> Result<i64, Fault> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        Ok(number as i64)
    } else {
        Err(bad(format!("row {row}: label {number} is no whole number")))
    }
}
