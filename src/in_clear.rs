//! The part of a report that says what stays in clear.

use std::io::{self, Write};

use onnxseal_core::{ClearRow, Report};

use crate::table::{Frame, Largest, Table};
use crate::text::{bytes, grouped, one_line};

/// Prints what stays in clear, one line for each reason.
pub fn clear(out: &mut impl Write, report: &Report, frame: Frame) -> io::Result<()> {
    writeln!(out)?;
    if report.clear.is_empty() {
        return in_clear(out, report);
    }
    // One line per reason, because exported models have hundreds of shapes and axes. JSON has each
    // tensor.
    let reasons = grouped(report.clear.iter().map(|row| (&row.reason, row)));
    let total = |rows: &[&ClearRow]| {
        rows.iter()
            .map(|row| row.bytes)
            .fold(0, u64::saturating_add)
    };
    let mut table = Table::new(["left in clear", "tensors", "bytes", "why"]);
    let rows = Largest::of(&reasons, |(_, rows)| total(rows), frame);
    for (reason, rows) in &rows.shown {
        // The first of the largest.
        let largest = rows.iter().rev().max_by_key(|row| row.bytes);
        let mut names = name(largest.map_or("", |row| &row.name));
        if rows.len() > 1 {
            names.push_str(", ...");
        }
        let (tensors, bytes) = (rows.len().to_string(), bytes(total(rows)));
        table.row([names, tensors, bytes, reason.to_string()]);
    }
    table.print(out, frame)?;
    rows.print_rest(out)?;
    in_clear(out, report)
}

/// Prints what stays in clear besides tensors.
fn in_clear(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for part in &report.passed_over {
        let bytes = bytes(part.bytes);
        writeln!(out, "left in clear: {} ({bytes})", name(&part.at))?;
    }
    for gap in &report.gaps {
        let (file, bytes) = (name(&gap.file), bytes(gap.bytes));
        let offset = gap.offset;
        writeln!(
            out,
            "left in clear: {bytes} of {file} from offset {offset} on, in no tensor"
        )?;
    }
    let (opaque, plain): (Vec<_>, Vec<_>) =
        (report.long_settings.iter()).partition(|setting| setting.may_hold_weights);
    for setting in opaque {
        let (attribute, bytes) = (name(&setting.attribute), bytes(setting.bytes));
        let op_type = one_line(&setting.op_type);
        writeln!(
            out,
            "left in clear: attribute {attribute} of {op_type} ({bytes}), which may hold weights"
        )?;
    }
    if report.settings.n > 0 {
        let (n, bytes) = (report.settings.n, bytes(report.settings.bytes));
        write!(
            out,
            "left in clear: numbers and text in attributes of nodes ({bytes} in {n})"
        )?;
        if let [longest, ..] = &plain[..] {
            let (attribute, op_type) = (name(&longest.attribute), one_line(&longest.op_type));
            write!(out, ", long ones such as {attribute} of {op_type}")?;
        }
        writeln!(out)?;
    }
    if report.metadata.n > 0 {
        let (n, bytes) = (report.metadata.n, bytes(report.metadata.bytes));
        writeln!(out, "left in clear: metadata_props ({bytes} in {n})")?;
    }
    Ok(())
}

pub fn name(name: &str) -> String {
    match name {
        "" => "-".into(),
        name => name.to_owned(),
    }
}
