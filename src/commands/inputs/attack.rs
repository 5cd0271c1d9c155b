//! `onnxseal inputs attack`

use std::io::Write as _;

use anyhow::Result;
use onnxseal_inputs::InputKey;
use onnxseal_inputs::attack::{Found, ImageSet, Row, of_model, of_pairs};
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
        rows.extend(of_model(model, args.public.as_ref(), spec)?);
    }
    if let (Some(keyed), Some(plain)) = (&args.encrypted, &args.pair) {
        let keyed = ImageSet::read(keyed, spec, args.limit)?;
        let plain = ImageSet::read(plain, spec, keyed.n)?;
        let row = of_pairs(&keyed, &plain, spec)?;
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
    show(&rows, &key, args.json)
}

fn show(rows: &[Row], key: &InputKey, as_json: bool) -> Result<()> {
    if as_json {
        let rows = rows.iter().map(|row| row_json(row, key));
        return render::json(&rows.collect::<Result<Vec<_>>>()?);
    }
    let mut out = std::io::stdout().lock();
    for row in rows {
        writeln!(out, "{}\n  {}", row.attack, told(&row.found, key)?)?;
        if let Some(restored) = row.restored {
            let percent = 100.0 * restored;
            writeln!(out, "  values of these images restored {percent:.1} %")?;
        }
    }
    Ok(())
}

fn row_json(row: &Row, key: &InputKey) -> Result<Value> {
    let (positions, near, negated) = match &row.found {
        Found::Key(guess) => {
            let score = guess.score(key)?;
            (Some(score.places), Some(score.near), score.negated)
        }
        Found::Mask(halves) => (None, None, halves.score(key)?),
    };
    Ok(json!({
        "attack": row.attack,
        "positions": positions,
        "positions_within_one_pixel": near,
        "negated": negated,
        "restored": row.restored,
    }))
}

fn told(found: &Found, key: &InputKey) -> Result<String> {
    Ok(match found {
        Found::Key(guess) => {
            let score = guess.score(key)?;
            format!(
                "positions found {:.1} %, to within one pixel {:.1} %, which are negated {:.1} %",
                100.0 * score.places,
                100.0 * score.near,
                100.0 * score.negated
            )
        }
        Found::Mask(halves) => format!(
            "which positions are negated {:.1} %, or all others: the answers to a few images tell; guessing gives 50 %",
            100.0 * halves.score(key)?
        ),
    })
}
