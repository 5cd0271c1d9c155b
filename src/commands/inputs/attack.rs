//! `onnxseal inputs attack`

use std::io::Write as _;

use anyhow::Result;
use onnxseal_inputs::InputKey;
use onnxseal_inputs::attack::{ImageSet, Row, of_model, of_pairs};
use serde_json::{Value, json};

use crate::cli::inputs::Attack;
use crate::render;
use crate::text::tell;

/// The least share of values that an attack restores from true pairs.
const LIKELY_PAIRS: f64 = 0.5;

pub fn run(args: &Attack) -> Result<()> {
    let key = args.identities.open(&args.key, "--key", InputKey::read)?;
    let spec = key.spec();
    let mut rows = Vec::new();
    if let Some(model) = &args.model {
        rows.extend(of_model(model, args.public.as_ref(), &key)?);
    }
    if let (Some(keyed), Some(plain)) = (&args.encrypted, &args.pair) {
        let keyed = ImageSet::read(keyed, spec, args.limit)?;
        let plain = ImageSet::read(plain, spec, keyed.n)?;
        let row = of_pairs(&keyed, &plain, &key)?;
        if let Some(restored) = row.restored
            && restored < LIKELY_PAIRS
        {
            tell(&format!(
                "warning: the key that fits best restores {:.0} % of the values only: do plain and keyed images come in the same order?",
                100.0 * restored
            ));
        }
        rows.push(row);
    }
    show(&rows, args.json)
}

fn show(rows: &[Row], as_json: bool) -> Result<()> {
    if as_json {
        return render::json(&rows.iter().map(row_json).collect::<Vec<_>>());
    }
    let mut out = std::io::stdout().lock();
    for row in rows {
        writeln!(out, "{}\n  {}", row.attack, told(row))?;
        if let Some(restored) = row.restored {
            let percent = 100.0 * restored;
            writeln!(out, "  values of these images restored {percent:.1} %")?;
        }
    }
    Ok(())
}

fn row_json(row: &Row) -> Value {
    json!({
        "attack": row.attack,
        "positions": row.places,
        "positions_within_one_pixel": row.near,
        "negated": row.negated,
        "restored": row.restored,
    })
}

fn told(row: &Row) -> String {
    let negated = 100.0 * row.negated;
    match (row.places, row.near) {
        (Some(places), Some(near)) => format!(
            "positions found {:.1} %, to within one pixel {:.1} %, which are negated {negated:.1} %",
            100.0 * places,
            100.0 * near
        ),
        _ => format!(
            "which positions are negated {negated:.1} %, or all others: the answers to a few images tell; guessing gives 50 %"
        ),
    }
}
