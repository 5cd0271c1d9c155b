//! Reports for people and, as JSON, for programs.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use onnxseal_core::{
    ClearRow, Location, Operator, Report, SignatureRow, SignedByRow, Verification, Volume,
};

use crate::cli::View;
use crate::text::one_line;

/// How many runs of positions a line shows, unless all are asked for.
const SHOWN_RUNS: usize = 4;

/// Prints `report` as `view` asks; as a table only unless `quiet`.
pub fn report(report: &Report, view: &View, quiet: bool) -> anyhow::Result<()> {
    if view.json {
        return json(report);
    }
    if quiet {
        return Ok(());
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    types(&mut out, report)?;
    operators(&mut out, report, view.positions)?;
    clear(&mut out, report)?;
    for (key, value) in &report.claims {
        writeln!(out, "claim {}={}", one_line(key), one_line(value))?;
    }
    if let Some(SignatureRow {
        key_type,
        fingerprint,
    }) = &report.signature
    {
        writeln!(
            out,
            "signature by {key_type} key {fingerprint} (not checked: see `onnxseal verify --allowed-signers`)"
        )?;
    }
    Ok(out.flush()?)
}

/// Prints any result as JSON.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Prints bytes that were made whole before.
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints what `verify` found.
pub fn verified(model: &Location, verified: &Verification) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let Volume {
        bytes,
        encrypted_bytes,
        share,
    } = verified.weights;
    writeln!(
        out,
        "{}: {} of {} of weights encrypted ({})",
        one_line(&model.to_string()),
        BinaryBytes(encrypted_bytes),
        BinaryBytes(bytes),
        percent(share)
    )?;
    let contents = match (verified.authenticated, &verified.signed_by) {
        (true, _) => "every byte of every file is authentic",
        (false, Some(_)) => "every byte of every file is as it was signed",
        (false, None) => "not checked (needs an identity)",
    };
    writeln!(out, "structure: ok")?;
    if let Some(true) = verified.policy_met {
        writeln!(out, "policy:    met")?;
    }
    writeln!(out, "contents:  {contents}")?;
    if let Some(signer) = &verified.signed_by {
        let SignedByRow {
            principals,
            key_type,
            fingerprint,
        } = signer;
        let principals = one_line(&principals.join(", "));
        writeln!(
            out,
            "signed by: {principals} ({key_type} key {fingerprint})"
        )?;
    }
    for (key, value) in &verified.claims {
        let standing = match verified.authenticated || verified.signed_by.is_some() {
            true => "",
            false => " (not authenticated)",
        };
        writeln!(
            out,
            "claim:     {}={}{standing}",
            one_line(key),
            one_line(value)
        )?;
    }
    Ok(())
}

fn types(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut table = Table::new(["op_type", "operators", "weights", "encrypted", "share"]);
    for row in &report.types {
        let [bytes, encrypted, share] = volume(row.volume);
        table.row([
            row.op_type.clone(),
            row.operators.to_string(),
            bytes,
            encrypted,
            share,
        ]);
    }
    let [bytes, encrypted, share] = volume(report.weights);
    let operators = report.operators.len().to_string();
    table.row(["total".into(), operators, bytes, encrypted, share]);
    table.print(out)
}

fn operators(out: &mut impl Write, report: &Report, all: bool) -> io::Result<()> {
    if report.operators.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let head = [
        "op_type",
        "node",
        "tensor",
        "bytes",
        "encrypted",
        "share",
        "n",
        "k",
        "positions",
    ];
    let mut table = Table::new(head);
    for operator in &report.operators {
        for tensor in &operator.tensors {
            let [bytes, encrypted, share] = volume(tensor.volume);
            table.row([
                operator.op_type.clone(),
                name(&operator.node),
                name(&tensor.name),
                bytes,
                encrypted,
                share,
                tensor.n.to_string(),
                tensor.k.to_string(),
                positions(&tensor.targets, all) + &also(&tensor.shared_with),
            ]);
        }
    }
    table.print(out)
}

fn clear(out: &mut impl Write, report: &Report) -> io::Result<()> {
    if report.clear.is_empty() && report.passed_over.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    // One line a reason: exported models have hundreds of shapes and axes. JSON has each tensor.
    let mut reasons: Vec<(&str, Vec<&ClearRow>)> = Vec::new();
    for row in &report.clear {
        match reasons.iter_mut().find(|(reason, _)| *reason == row.reason) {
            Some((_, rows)) => rows.push(row),
            None => reasons.push((&row.reason, vec![row])),
        }
    }
    let mut table = Table::new(["left in clear", "tensors", "bytes", "why"]);
    for (reason, rows) in reasons {
        let largest = rows.iter().max_by_key(|row| row.bytes);
        let mut names = largest.map_or(String::new(), |row| name(&row.name));
        if rows.len() > 1 {
            names.push_str(", ...");
        }
        let bytes = rows
            .iter()
            .fold(0u64, |sum, row| sum.saturating_add(row.bytes));
        let bytes = BinaryBytes(bytes).to_string();
        table.row([names, rows.len().to_string(), bytes, reason.to_owned()]);
    }
    table.print(out)?;
    for part in &report.passed_over {
        writeln!(
            out,
            "not looked into: {} ({})",
            name(&part.at),
            BinaryBytes(part.bytes)
        )?;
    }
    Ok(())
}

fn volume(volume: Volume) -> [String; 3] {
    let Volume {
        bytes,
        encrypted_bytes,
        share,
    } = volume;
    let bytes = BinaryBytes(bytes).to_string();
    [
        bytes,
        BinaryBytes(encrypted_bytes).to_string(),
        percent(share),
    ]
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn name(name: &str) -> String {
    match name {
        "" => "-".into(),
        name => name.to_owned(),
    }
}

/// Runs of subsequences as `first-last`, from `[skip, take, ...]`.
fn positions(targets: &[u64], all: bool) -> String {
    let mut next = 0;
    let runs = targets.chunks_exact(2).map(|run| {
        let first = next + run[0];
        next = first + run[1];
        match run[1] {
            1 => first.to_string(),
            _ => format!("{first}-{}", next - 1),
        }
    });
    let shown = if all { usize::MAX } else { SHOWN_RUNS };
    let mut text = runs.take(shown).collect::<Vec<_>>().join(",");
    match (targets.len() / 2).saturating_sub(shown) {
        _ if targets.is_empty() => text.push('-'),
        0 => {}
        more => text.push_str(&format!(",... (+{more})")),
    }
    text
}

fn also(operators: &[Operator]) -> String {
    match operators {
        [] => String::new(),
        [one] => format!("  also used by {} {}", one.op_type, name(&one.node)),
        more => format!("  also used by {} operators", more.len()),
    }
}

/// Columns that line up; numbers are recognised by their heading and stand right.
struct Table<const N: usize> {
    head: [&'static str; N],
    rows: Vec<[String; N]>,
}

const RIGHT: [&str; 8] = [
    "tensors",
    "operators",
    "weights",
    "bytes",
    "encrypted",
    "share",
    "n",
    "k",
];

impl<const N: usize> Table<N> {
    fn new(head: [&'static str; N]) -> Table<N> {
        Table {
            head,
            rows: Vec::new(),
        }
    }

    fn row(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| one_line(&cell)));
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.head[column].len()]).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let mut line = |cells: [&str; N]| {
            let mut text = String::new();
            for ((cell, head), width) in cells.iter().zip(self.head).zip(widths) {
                match RIGHT.contains(&head) {
                    true => text.push_str(&format!("{cell:>width$}  ")),
                    false => text.push_str(&format!("{cell:<width$}  ")),
                }
            }
            writeln!(out, "{}", text.trim_end())
        };
        line(self.head)?;
        self.rows
            .iter()
            .try_for_each(|row| line(row.each_ref().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_runs() {
        assert_eq!(positions(&[0, 1, 3, 2], false), "0,4-5");
        assert_eq!(positions(&[], false), "-");
        let many = [1u64; 12];
        assert_eq!(positions(&many, false), "1,3,5,7,... (+2)");
        assert_eq!(positions(&many, true), "1,3,5,7,9,11");
    }
}
