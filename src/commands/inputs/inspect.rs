//! `onnxseal inputs inspect`

use std::io::Write;

use anyhow::Result;
use onnxseal_inputs::Layout;
use onnxseal_inputs::rewrite::{Candidate, Entry, Files, inspect};
use serde_json::{Value, json};

use crate::cli::inputs::Inspect;
use crate::exit::failed;
use crate::render;
use crate::text::printable;

pub fn run(args: &Inspect) -> Result<()> {
    let candidates = Files::open(&args.model)?.with(inspect)?;
    if args.json {
        render::json(&candidates.iter().map(as_json).collect::<Vec<_>>())?
    } else {
        show(&candidates)?
    }
    if candidates.iter().any(|of| of.found.is_ok()) {
        Ok(())
    } else {
        Err(failed(2, "the model cannot be rewritten at any input"))
    }
}

fn show(candidates: &[Candidate]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for candidate in candidates {
        let mut lines = vec![format!("input {:?}", candidate.input)];
        match &candidate.found {
            Ok(entry) => lines.extend(rows(entry)),
            Err(refusal) => {
                lines.push(format!("  cannot be rewritten: {refusal}"));
                lines.extend(refusal.advice.map(|advice| format!("  hint: {advice}")));
            }
        }
        for line in lines {
            writeln!(out, "{}", printable(&line))?;
        }
    }
    Ok(())
}

fn rows(entry: &Entry) -> Vec<String> {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let side = |side: Option<u64>| side.map_or("any".to_owned(), |side| side.to_string());
    let row = |name: &str, text: String| format!("  {name:<14}{text}");
    let (channels, rows, columns) = (entry.channels, side(entry.size.0), side(entry.size.1));
    let shape = match entry.layout {
        Layout::Nchw => format!("{channels} channels, {rows} rows, {columns} columns"),
        Layout::Nhwc => format!("{rows} rows, {columns} columns, {channels} channels"),
    };
    let mut rows = vec![
        row(
            "images",
            format!("{}, {shape}", entry.data_type.as_str_name().to_lowercase()),
        ),
        row("changes", list(&mut entry.nodes.iter().cloned())),
        row("blocks", list(&mut entry.blocks.iter().map(u32::to_string))),
    ];
    if entry.statistics.iter().any(|of| *of != (0.0, 1.0)) {
        let numbers = entry.statistics.iter();
        rows.push(row(
            "normalises",
            list(&mut numbers.map(|(mean, std)| format!("(x - {mean:.6}) / {std:.6}"))),
        ));
    }
    rows.push(match (&entry.shuffle_alone, entry.middle) {
        (Some(why), _) => row("transforms", format!("shuffle alone: {why}")),
        (None, Some(middle)) => row(
            "transforms",
            format!("shuffle; others if the middle of the range is {middle}"),
        ),
        (None, None) => row("transforms", "shuffle, negative, orthogonal".into()),
    });
    rows
}

fn as_json(candidate: &Candidate) -> Value {
    let entry = match &candidate.found {
        Ok(entry) => entry,
        Err(refusal) => {
            return json!({
                "input": candidate.input,
                "rewritable": false,
                "node": refusal.node,
                "reason": refusal.reason,
                "advice": refusal.advice,
            });
        }
    };
    json!({
        "input": candidate.input,
        "rewritable": true,
        "data_type": entry.data_type.as_str_name(),
        "layout": match entry.layout {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        },
        "channels": entry.channels,
        "rows": entry.size.0,
        "columns": entry.size.1,
        "nodes": entry.nodes,
        "blocks": entry.blocks,
        "mean": entry.statistics.iter().map(|of| of.0).collect::<Vec<_>>(),
        "std": entry.statistics.iter().map(|of| of.1).collect::<Vec<_>>(),
        "shuffle_alone": entry.shuffle_alone.as_ref().map(ToString::to_string),
        "middle": entry.middle,
        "shuffle_exact": entry.is_shuffle_exact,
    })
}
