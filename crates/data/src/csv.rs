//! CSV: one row per sample, with its label in one column.

use std::fs::File;

use csv::{Position, Reader, ReaderBuilder, StringRecord};

use crate::array::{self, Array, Raw, Values};
use crate::error::{Fault, Result, bad};
use crate::options::DataOptions;

/// The name of the column of labels.
const LABEL: &str = "label";

pub(crate) fn read(file: File, options: &DataOptions) -> Result<Raw, Fault> {
    let mut table = Table::open(file)?;
    let label = match table.label {
        None if options.label_first => Some(0),
        named => named,
    };
    let kept = match options.limit {
        None => None,
        Some(_) => options.kept(table.count()?),
    };
    let mut left = kept.as_ref().map(|kept| kept.iter().copied().peekable());
    let (mut labels, mut values) = (Vec::new(), Vec::new());
    let (mut width, mut is_whole) = (0, true);
    while let Some((row, record)) = table.next()? {
        width = record.len() - usize::from(label.is_some_and(|label| label < record.len()));
        let is_kept = left
            .as_mut()
            .is_none_or(|left| left.next_if_eq(&row).is_some());
        for (column, text) in record.iter().enumerate() {
            let number = number(row, column, text)?;
            if label == Some(column) {
                let of_row = array::label(row, number)?;
                labels.extend(is_kept.then_some(of_row));
            } else {
                is_whole &= number.fract() == 0.0 && number.abs() < 1e15;
                values.extend(is_kept.then_some(number));
            }
        }
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
        arrays: vec![(table.row, array)],
        labels: label.map(|_| (table.row, labels)),
    })
}

/// Reads only labels: the column `label`, or the only column.
pub(crate) fn read_labels(file: File, options: &DataOptions) -> Result<(usize, Vec<i64>), Fault> {
    let mut table = Table::open(file)?;
    let named = table.label;
    let mut labels = Vec::new();
    while let Some((row, record)) = table.next()? {
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

/// Rows, read one by one, because text takes more memory than its numbers.
struct Table {
    reader: Reader<File>,
    /// The start of the first sample, after the header. A first row with anything other than
    /// numbers is a header.
    begin: Position,
    /// The column called `label` in the header.
    label: Option<usize>,
    record: StringRecord,
    /// Rows read so far.
    row: usize,
}

impl Table {
    fn open(file: File) -> Result<Table, Fault> {
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .trim(csv::Trim::All)
            .from_reader(file);
        let mut first = StringRecord::new();
        reader.read_record(&mut first).map_err(unreadable)?;
        let is_header = first.iter().any(|text| text.parse::<f64>().is_err());
        let is_label = |name: &str| name.trim().eq_ignore_ascii_case(LABEL);
        let (begin, label) = if is_header {
            (reader.position().clone(), first.iter().position(is_label))
        } else {
            (Position::new(), None)
        };
        let mut table = Table {
            reader,
            begin,
            label,
            record: first,
            row: 0,
        };
        table.rewind()?;
        if table.next()?.is_none() {
            return Err(bad("it has no samples"));
        }
        table.rewind()?;
        Ok(table)
    }

    /// Returns the next sample, and its number.
    fn next(&mut self) -> Result<Option<(usize, &StringRecord)>, Fault> {
        let row = self.row;
        let is_there = self.reader.read_record(&mut self.record);
        if !is_there.map_err(unreadable)? {
            return Ok(None);
        }
        self.row += 1;
        Ok(Some((row, &self.record)))
    }

    fn rewind(&mut self) -> Result<(), Fault> {
        self.row = 0;
        self.reader.seek(self.begin.clone()).map_err(unreadable)
    }

    /// Counts the samples.
    fn count(&mut self) -> Result<usize, Fault> {
        while self.next()?.is_some() {}
        let n = self.row;
        self.rewind()?;
        Ok(n)
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
