//! Reports for people and, as JSON, for programs.

use std::io::{self, Write};

use onnxseal_core::{
    Location, Operator, Report, TensorRow, Verification, Volume, manifest, opens_with,
};

use crate::cli::View;
use crate::in_clear::{clear, name};
use crate::table::{Frame, HIDDEN, Largest, Table};
use crate::text::{self, except, grouped, is_quiet, json_text, one_line};

/// The most runs of positions on a line, unless the user asks for all.
const SHOWN_RUNS: usize = 4;

/// Prints `report` as `view` asks. A quiet command prints no table.
pub fn report(report: Report, view: &View) -> anyhow::Result<()> {
    if view.json {
        return json(&report);
    }
    if view.jsonl {
        return json_lines(report);
    }
    if is_quiet() {
        return Ok(());
    }
    let report = &report;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let frame = Frame::of(view);
    types(&mut out, report, frame)?;
    operators(&mut out, report, view.positions, frame)?;
    clear(&mut out, report, frame)?;
    tiers(&mut out, report, frame)?;
    writeln!(out, "{}", lock(report.locked))?;
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
    if let Some(row) = &report.signature {
        writeln!(
            out,
            "signature by {} key {} (not checked: see `onnxseal verify --allowed-signers`)",
            row.key_type, row.fingerprint
        )?;
    }
    Ok(out.flush()?)
}

fn lock(locked: bool) -> &'static str {
    if locked {
        "locked: without the key, programs refuse to run it"
    } else {
        "runnable: without the key, programs run it and give wrong answers"
    }
}

pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(&json_bytes(value)?)?;
    Ok(out.flush()?)
}

/// Encodes any result as JSON, with a line break at the end.
pub fn json_bytes(value: &impl serde::Serialize) -> anyhow::Result<Vec<u8>> {
    let text = json_text(&serde_json::to_string_pretty(value)?) + "\n";
    Ok(text.into_bytes())
}

#[derive(serde::Serialize)]
struct Line<T> {
    r#type: &'static str,
    #[serde(flatten)]
    members: T,
}

/// A tensor with the operator that owns it.
#[derive(serde::Serialize)]
struct Owned<'r> {
    op_type: &'r str,
    node: &'r str,
    #[serde(flatten)]
    tensor: &'r TensorRow,
}

fn json_lines(mut report: Report) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for operator in std::mem::take(&mut report.operators) {
        for tensor in &operator.tensors {
            let (op_type, node) = (&operator.op_type, &operator.node);
            let owned = Owned {
                op_type,
                node,
                tensor,
            };
            line(&mut out, "tensor", owned)?;
        }
    }
    for members in std::mem::take(&mut report.clear) {
        line(&mut out, "clear", members)?;
    }
    let mut model = serde_json::to_value(&report)?;
    if let Some(members) = model.as_object_mut() {
        // The lines before contain these already.
        members.retain(|name, _| name != "operators" && name != "clear");
    }
    line(&mut out, "model", model)?;
    Ok(out.flush()?)
}

fn line(
    out: &mut impl Write,
    r#type: &'static str,
    members: impl serde::Serialize,
) -> anyhow::Result<()> {
    let text = serde_json::to_string(&Line { r#type, members })?;
    Ok(writeln!(out, "{}", json_text(&text))?)
}

pub fn verified(model: &Location, verified: &Verification) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let [bytes, encrypted, share] = volume(verified.weights);
    let model = one_line(&model.to_string());
    writeln!(
        out,
        "{model}: {encrypted} of {bytes} of all tensors encrypted ({share})"
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
    let except = except(&verified.unchecked);
    writeln!(out, "contents:  {contents}{except}")?;
    if let Some(tier) = &verified.tier {
        writeln!(out, "tier:      {}", one_line(tier))?;
    }
    if let Some(signer) = &verified.signed_by {
        let principals = one_line(&signer.principals.join(", "));
        let (key_type, fingerprint) = (&signer.key_type, &signer.fingerprint);
        writeln!(
            out,
            "signed by: {principals} ({key_type} key {fingerprint})"
        )?;
    }
    let standing = if verified.authenticated || verified.signed_by.is_some() {
        ""
    } else {
        " (not authenticated)"
    };
    for (key, value) in &verified.claims {
        let force = match verified.not_in_force == Some(key.as_str()) {
            true => " (NOT IN FORCE: the model does not open now)",
            false => "",
        };
        let (key, value) = (one_line(key), one_line(value));
        writeln!(out, "claim:     {key}={value}{standing}{force}")?;
    }
    Ok(())
}

fn types(out: &mut impl Write, report: &Report, frame: Frame) -> io::Result<()> {
    let mut table = Table::new(["op_type", "operators", "weights", "encrypted", "share"]);
    let rows = Largest::of(&report.types, |row| row.volume.bytes, frame);
    for row in &rows.shown {
        let [bytes, encrypted, share] = volume(row.volume);
        table.row([
            op_type(&row.op_type),
            row.operators.to_string(),
            bytes,
            encrypted,
            share,
        ]);
    }
    let of_types = report.types.iter().map(|row| row.volume.bytes).sum();
    let others = report.weights.bytes.saturating_sub(of_types);
    if others > 0 {
        let [bytes, zero] = [others, 0].map(text::bytes);
        table.row(["others".into(), String::new(), bytes, zero, percent(0.0)]);
    }
    let [bytes, encrypted, share] = volume(report.weights);
    let operators = report.operators.len().to_string();
    table.row(["total".into(), operators, bytes, encrypted, share]);
    table.print(out, frame)?;
    rows.print_rest(out)
}

/// Names an operator type; an empty name stands for tensors that no node reads.
fn op_type(op_type: &str) -> String {
    match op_type {
        "" => "(unread)".to_owned(),
        op_type => op_type.to_owned(),
    }
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
    for (operator, tensor) in &rows.shown {
        let [bytes, encrypted, share] = volume(tensor.volume);
        table.row([
            op_type(&operator.op_type),
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
    rows.print_rest(out)?;
    whole(out, report)
}

/// Prints the tiers, and how targets of higher ones are encrypted.
fn tiers(out: &mut impl Write, report: &Report, frame: Frame) -> io::Result<()> {
    if report.tiers.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(["tier", "opens", "own bytes", "recipients"]);
    for row in &report.tiers {
        table.row([
            row.name.clone(),
            percent(row.share),
            text::bytes(row.bytes),
            row.recipients.to_string(),
        ]);
    }
    if report.recipients.is_empty() {
        table.head[3] = HIDDEN;
    }
    table.print(out, frame)?;
    let tensors = report.operators.iter().flat_map(|row| &row.tensors);
    for (mode, tensors) in grouped(tensors.filter_map(|tensor| Some((tensor.mode?, tensor)))) {
        let what = match mode {
            manifest::Mode::Bytes => "as bytes; lower tiers get a constant in their place",
            manifest::Mode::Mask => "by sign and mantissa (mask); exponents stay visible",
            manifest::Mode::Shuffle => "by places (shuffle); values stay visible",
        };
        let n = tensors.len();
        writeln!(out, "{n} tensor(s) above the first tier encrypted {what}")?;
    }
    Ok(())
}

/// Prints what the preset takes whole, with a line for each reason.
fn whole(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let operators = report.operators.iter();
    let whole = operators.filter_map(|row| Some((row.whole_because?, &row.node)));
    for (reason, nodes) in grouped(whole) {
        let which = match nodes[..] {
            [node] => name(node),
            _ => format!("{} operators", nodes.len()),
        };
        writeln!(out, "encrypted whole: {which}, because {reason}")?;
    }
    Ok(())
}

fn volume(volume: Volume) -> [String; 3] {
    let [bytes, encrypted] = [volume.bytes, volume.encrypted_bytes].map(text::bytes);
    [bytes, encrypted, percent(volume.share)]
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Formats runs of subsequences as `first-last`, from `[skip, take, ...]`.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
