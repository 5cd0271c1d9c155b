//! `onnxseal labels attack`

use std::io::Write as _;

use anyhow::Result;
use onnxseal_assess::learn;
use onnxseal_labels::attack::{Found, run as answer};
use serde_json::json;

use crate::cli::labels::Attack;
use crate::exit::usage;
use crate::render;

/// The numbers of labelled samples to give attackers.
const LABELLED: [usize; 4] = [10, 30, 100, 1000];

pub fn run(args: &Attack) -> Result<()> {
    let data = crate::commands::assess::data(&args.data)?;
    let data = data.ok_or_else(|| usage("attacks need samples: give --data"))?;
    let Some(labels) = &data.labels else {
        return Err(usage(
            "the data have no labels, by which to count how much attackers found: give --labels",
        ));
    };
    let answered = answer(&args.model, &data, &args.data.options())?;
    let mut found: Vec<Found> = Vec::new();
    found.extend(answered.groups(labels, args.data.seed));
    for n in LABELLED.into_iter().filter(|n| n * 2 <= data.n) {
        found.push(Found {
            attack: format!("answers to {n} samples with labels"),
            got: learn::accuracy(&answered.ran.answers, labels, n, args.data.seed)?,
            floor: learn::accuracy(&answered.ran.features, labels, n, args.data.seed)?,
            what: "accuracy; beside it, from features",
        });
    }
    show(&found, args.json)
}

fn show(found: &[Found], as_json: bool) -> Result<()> {
    if as_json {
        let rows = found.iter().map(|row| json!({"attack": row.attack, "got": row.got, "floor": row.floor, "what": row.what}));
        return render::json(&rows.collect::<Vec<_>>());
    }
    let mut out = std::io::stdout().lock();
    for row in found {
        writeln!(
            out,
            "{:<52} {:>6.1} %  floor {:>6.1} %   {}",
            row.attack,
            100.0 * row.got,
            100.0 * row.floor,
            row.what
        )?;
    }
    Ok(())
}
