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
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    if args.json {
        return render::json(&json!({
            "classes": table.classes(),
            "codewords": table.codewords(),
            "rows": table.n_rows(),
            "traces": table.traces().len(),
            "collusion": table.collusion(),
            "answers": table.answers(),
            "logits": table.logits(),
            "outputs": table.outputs(),
            "tail_bytes": table.tail().len(),
            "revoked": table.n_revoked(),
            "authority": hex(&table.authority()),
            "digest": hex(table.digest()),
        }));
    }
    let mut out = std::io::stdout().lock();
    let quoted: Vec<String> = table
        .outputs()
        .iter()
        .map(|name| format!("{name:?}"))
        .collect();
    let behind = match table.tail().len() {
        0 => "nothing".to_owned(),
        n => format!("{n} bytes of graph"),
    };
    for (name, text) in [
        (
            "classes",
            format!(
                "{}, each with {} codewords",
                table.classes(),
                table.codewords()
            ),
        ),
        (
            "rows",
            format!(
                "{}, {} of them traces",
                table.n_rows(),
                table.traces().len()
            ),
        ),
        ("answers", format!("output {:?}", table.answers())),
        (
            "original",
            format!("output {}; behind decoding: {behind}", quoted.join(", ")),
        ),
        (
            "colluders",
            format!("up to {} learn no exponents", table.collusion()),
        ),
        ("revoked", table.n_revoked().to_string()),
        ("authority", hex(&table.authority())),
        ("digest", hex(table.digest())),
    ] {
        writeln!(out, "{}", printable(&format!("{name:<12}{text}")))?;
    }
    Ok(())
}
