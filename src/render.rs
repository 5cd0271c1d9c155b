//! Reports for people and, as JSON, for programs.

use std::collections::HashMap;
use std::io::{self, Write};

use indicatif::BinaryBytes;
use onnxseal_core::{
    ClearRow, Location, Operator, Report, SignatureRow, SignedByRow, Verification, Volume,
    opens_with,
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
    let frame = Frame::of(view);
    types(&mut out, report, frame)?;
    operators(&mut out, report, view.positions, frame)?;
    clear(&mut out, report, frame)?;
    for (key, value) in &report.claims {
        writeln!(out, "claim {}={}", one_line(key), one_line(value))?;
    }
    if !report.recipients.is_empty() {
        let kinds: Vec<String> = report
            .recipients
            .iter()
            .map(|row| row.kind.clone())
            .collect();
        writeln!(out, "opens with: {}", one_line(&opens_with(&kinds)))?;
    }
    for public_key in &report.public_keys {
        writeln!(out, "  {}", one_line(public_key))?;
    }
    if let Some(comment) = &report.comment {
        writeln!(out, "comment (not checked): {}", one_line(comment))?;
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

fn types(out: &mut impl Write, report: &Report, frame: Frame) -> io::Result<()> {
    let mut table = Table::new(["op_type", "operators", "weights", "encrypted", "share"]);
    let rows = Largest::of(&report.types, |row| row.volume.bytes, frame);
    for row in rows.shown() {
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
    table.print(out, frame)?;
    rows.print_rest(out)
}

fn operators(
    out: &mut impl Write,
    report: &Report,
    all_positions: bool,
    frame: Frame,
) -> io::Result<()> {
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
    let rows = report.operators.iter().flat_map(|operator| {
        let tensors = operator.tensors.iter();
        tensors.map(move |tensor| (operator, tensor))
    });
    let rows: Vec<_> = rows.collect();
    let rows = Largest::of(&rows, |(_, tensor)| tensor.volume.bytes, frame);
    for (operator, tensor) in rows.shown() {
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
            positions(&tensor.targets, all_positions) + &also(&tensor.shared_with),
        ]);
    }
    if frame.is_narrow() && !all_positions {
        table
            .head
            .iter_mut()
            .filter(|head| ["n", "k", "positions"].contains(head))
            .for_each(|head| *head = HIDDEN);
    }
    table.print(out, frame)?;
    rows.print_rest(out)
}

fn clear(out: &mut impl Write, report: &Report, frame: Frame) -> io::Result<()> {
    let constants = report.plain_constants;
    if report.clear.is_empty() && report.passed_over.is_empty() && constants.n == 0 {
        return Ok(());
    }
    writeln!(out)?;
    // One line a reason: exported models have hundreds of shapes and axes. JSON has each tensor.
    let mut indices: HashMap<&str, usize> = HashMap::new();
    let mut reasons: Vec<(&ClearRow, u64, u64)> = Vec::new();
    for row in &report.clear {
        let index = *indices.entry(&row.reason).or_insert(reasons.len());
        if index == reasons.len() {
            reasons.push((row, 0, 0));
        }
        let (largest, tensors, bytes) = &mut reasons[index];
        if row.bytes > largest.bytes {
            *largest = row;
        }
        *tensors += 1;
        *bytes = bytes.saturating_add(row.bytes);
    }
    let mut table = Table::new(["left in clear", "tensors", "bytes", "why"]);
    let rows = Largest::of(&reasons, |(_, _, bytes)| *bytes, frame);
    for (largest, tensors, bytes) in rows.shown() {
        let mut names = name(&largest.name);
        if *tensors > 1 {
            names.push_str(", ...");
        }
        let (bytes, reason) = (BinaryBytes(*bytes).to_string(), largest.reason.to_string());
        table.row([names, tensors.to_string(), bytes, reason]);
    }
    if !report.clear.is_empty() {
        table.print(out, frame)?;
        rows.print_rest(out)?;
    }
    for part in &report.passed_over {
        writeln!(
            out,
            "not looked into: {} ({})",
            name(&part.at),
            BinaryBytes(part.bytes)
        )?;
    }
    if constants.n > 0 {
        writeln!(
            out,
            "left in clear: numbers and text of {} Constant attributes ({})",
            constants.n,
            BinaryBytes(constants.bytes)
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

/// Rows that a table shows, unless all are asked for.
const SHOWN_ROWS: usize = 40;

/// What a table has to fit into.
#[derive(Clone, Copy)]
struct Frame {
    /// Columns of the terminal; none where there is no terminal, and nothing is shortened.
    width: Option<usize>,
    /// Whether every row is shown.
    all: bool,
}

impl Frame {
    fn of(view: &View) -> Frame {
        let terminal = console::Term::stdout();
        let size = terminal.size_checked().filter(|_| terminal.is_term());
        let width = size.map(|(_, columns)| usize::from(columns));
        Frame {
            // Terminals that have no size say 0.
            width: width.filter(|&width| width > 0),
            all: view.all,
        }
    }

    /// Whether there is no room for the columns that few read.
    fn is_narrow(self) -> bool {
        self.width.is_some_and(|width| width < 120)
    }
}

/// The largest of many rows, in the order of all, and what became of the others.
struct Largest<'r, R> {
    shown: Vec<&'r R>,
    n_others: usize,
    other_bytes: u64,
}

impl<'r, R> Largest<'r, R> {
    fn of(rows: &'r [R], bytes: impl Fn(&R) -> u64, frame: Frame) -> Largest<'r, R> {
        let mut indices: Vec<usize> = (0..rows.len()).collect();
        let n_shown = if frame.all {
            rows.len()
        } else {
            SHOWN_ROWS.min(rows.len())
        };
        indices.sort_by_key(|&index| std::cmp::Reverse(bytes(&rows[index])));
        let others = indices.split_off(n_shown);
        indices.sort_unstable();
        Largest {
            shown: indices.into_iter().map(|index| &rows[index]).collect(),
            n_others: others.len(),
            other_bytes: others.iter().fold(0, |sum: u64, &index| {
                sum.saturating_add(bytes(&rows[index]))
            }),
        }
    }

    fn shown(&self) -> impl Iterator<Item = &'r R> {
        self.shown.iter().copied()
    }

    fn print_rest(&self, out: &mut impl Write) -> io::Result<()> {
        match self.n_others {
            0 => Ok(()),
            n => writeln!(
                out,
                "... and {n} smaller, {} together: --all shows them",
                BinaryBytes(self.other_bytes)
            ),
        }
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

/// Columns that are shortened where a table is too wide: those of a line first, then the next.
const SHORTENED: [&[&str]; 2] = [
    &["node", "tensor", "left in clear"],
    &["op_type", "positions", "why"],
];

/// Display columns that are left of one that is shortened.
const MIN_WIDTH: usize = 12;

/// The heading of a column that is not shown.
const HIDDEN: &str = "";

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

    fn print(&self, out: &mut impl Write, frame: Frame) -> io::Result<()> {
        let widths = self.widths(frame);
        let mut line = |cells: [&str; N]| {
            let mut text = String::new();
            for ((cell, head), width) in cells.iter().zip(self.head).zip(widths) {
                if head == HIDDEN {
                    continue;
                }
                let cell = shorten(cell, width);
                let padding = " ".repeat(width.saturating_sub(console::measure_text_width(&cell)));
                match RIGHT.contains(&head) {
                    true => text.push_str(&format!("{padding}{cell}  ")),
                    false => text.push_str(&format!("{cell}{padding}  ")),
                }
            }
            writeln!(out, "{}", text.trim_end())
        };
        line(self.head)?;
        self.rows
            .iter()
            .try_for_each(|row| line(row.each_ref().map(String::as_str)))
    }

    /// The width of each column: of its widest cell, where the frame has room for that.
    fn widths(&self, frame: Frame) -> [usize; N] {
        let mut widths: [usize; N] = std::array::from_fn(|column| {
            let cells = self.rows.iter().map(|row| row[column].as_str());
            let widths = cells
                .chain([self.head[column]])
                .map(console::measure_text_width);
            match self.head[column] {
                HIDDEN => 0,
                _ => widths.max().unwrap_or(0),
            }
        });
        let Some(room) = frame.width else {
            return widths;
        };
        let shown = self.head.iter().filter(|head| **head != HIDDEN).count();
        let room = room.saturating_sub(2 * shown.saturating_sub(1));
        for group in SHORTENED {
            loop {
                let over = widths.iter().sum::<usize>().saturating_sub(room);
                let columns = (0..N).filter(|&column| group.contains(&self.head[column]));
                let Some(widest) = columns.max_by_key(|&column| widths[column]) else {
                    break;
                };
                let cut =
                    over.min(widths[widest].saturating_sub(MIN_WIDTH.max(self.head[widest].len())));
                if cut == 0 {
                    break;
                }
                // To the next widest of the group, so that both go on to give alike.
                let columns =
                    (0..N).filter(|&column| group.contains(&self.head[column]) && column != widest);
                let next = columns.map(|column| widths[column]).max().unwrap_or(0);
                widths[widest] -= cut.min((widths[widest] - next).max(1));
            }
        }
        widths
    }
}

/// `text` with its middle left out where it is wider than `width`.
fn shorten(text: &str, width: usize) -> String {
    if console::measure_text_width(text) <= width {
        return text.to_owned();
    }
    let take = |chars: &mut dyn Iterator<Item = char>, width: usize| {
        let mut taken = String::new();
        let mut used = 0;
        for c in chars {
            used += console::measure_text_width(c.encode_utf8(&mut [0; 4]));
            if used > width {
                break;
            }
            taken.push(c);
        }
        taken
    };
    let room = width.saturating_sub(1);
    let end = take(&mut text.chars().rev(), room / 2);
    let start = take(&mut text.chars(), room - room / 2);
    format!("{start}\u{2026}{}", end.chars().rev().collect::<String>())
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

    #[test]
    fn the_middle_of_names_is_left_out() {
        assert_eq!(shorten("encoder.weight", 14), "encoder.weight");
        assert_eq!(shorten("encoder.weight", 13), "encode\u{2026}weight");
        assert_eq!(shorten("重み.重み", 6), "重\u{2026}み");
        assert_eq!(shorten("abc", 1), "\u{2026}");
        assert_eq!(shorten("abc", 0), "\u{2026}");
    }

    fn lines(table: &Table<4>, width: Option<usize>) -> Vec<String> {
        let mut out = Vec::new();
        let frame = Frame { width, all: false };
        assert!(table.print(&mut out, frame).is_ok());
        let text = String::from_utf8_lossy(&out).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn tables_fit_the_terminal_and_nothing_else() {
        let mut table = Table::new(["op_type", "node", "tensor", "bytes"]);
        let long = |text: &str| text.repeat(40);
        table.row(["Conv".into(), long("ab"), long("重"), "1".into()]);
        table.row(["Conv".into(), "node".into(), "w".into(), "1234".into()]);
        for width in [50, 80, 120] {
            let lines = lines(&table, Some(width));
            let widest = lines
                .iter()
                .map(|line| console::measure_text_width(line))
                .max();
            assert!(
                widest <= Some(width) && widest >= Some(width - 4),
                "{lines:#?}"
            );
            assert!(lines[1].contains('\u{2026}') && !lines[2].contains('\u{2026}'));
        }
        assert!(lines(&table, None)[1].contains(&long("ab")));
    }

    #[test]
    fn long_tables_show_the_largest_rows_in_order() {
        let rows: Vec<u64> = (0..100).collect();
        let some = Largest::of(
            &rows,
            |row| *row,
            Frame {
                width: None,
                all: false,
            },
        );
        assert!(some.shown().copied().eq(60..100));
        assert_eq!((some.n_others, some.other_bytes), (60, 59 * 60 / 2));
        let all = Largest::of(
            &rows,
            |row| *row,
            Frame {
                width: None,
                all: true,
            },
        );
        assert!(all.shown().copied().eq(0..100) && all.n_others == 0);
    }
}
