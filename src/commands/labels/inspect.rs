//! `onnxseal labels inspect`

use std::io::Write as _;

use anyhow::Result;
use onnxseal_core::Location;
use onnxseal_labels::Table;
use onnxseal_labels::head::table_of;
use onnxseal_rewrite::Files;
use serde_json::json;

use crate::cli::labels::Inspect;
use crate::render;
use crate::text::printable;

/// Reads and verifies the table in a model.
pub fn table(model: &Location) -> Result<Table> {
    let files = Files::open(model)?;
    Ok(files.with(table_of)?)
}

pub fn run(args: &Inspect) -> Result<()> {
    let table = table(&args.model)?;
    let hex = |bytes: &[u8]| {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>()
    };
    let (classes, codewords, rows) = (table.classes(), table.codewords(), table.n_rows());
    let (traces, collusion, revoked) = (table.traces().len(), table.collusion(), table.n_revoked());
    let (answers, tail_bytes) = (table.answers(), table.tail().len());
    let (authority, digest) = (hex(&table.authority()), hex(table.digest()));
    if args.json {
        return render::json(&json!({
            "classes": classes,
            "codewords": codewords,
            "rows": rows,
            "traces": traces,
            "collusion": collusion,
            "answers": answers,
            "logits": table.logits(),
            "outputs": table.outputs(),
            "tail_bytes": tail_bytes,
            "revoked": revoked,
            "authority": authority,
            "digest": digest,
        }));
    }
    let mut out = std::io::stdout().lock();
    let quoted = table.outputs().iter().map(|name| format!("{name:?}"));
    let outputs = quoted.collect::<Vec<_>>().join(", ");
    let behind = match tail_bytes {
        0 => "nothing".to_owned(),
        n => format!("{n} bytes of graph"),
    };
    for (name, text) in [
        (
            "classes",
            format!("{classes}, each with {codewords} codewords"),
        ),
        ("rows", format!("{rows}, {traces} of them traces")),
        ("answers", format!("output {answers:?}")),
        (
            "original",
            format!("output {outputs}; behind decoding: {behind}"),
        ),
        ("colluders", format!("up to {collusion} learn no exponents")),
        ("revoked", revoked.to_string()),
        ("authority", authority),
        ("digest", digest),
    ] {
        writeln!(out, "{}", printable(&format!("{name:<12}{text}")))?;
    }
    Ok(())
}
