//! `onnxseal labels attack`

use std::io::Write as _;

use anyhow::Result;
use onnxseal_assess::learn;
use onnxseal_labels::attack::{Attacks, Found};
use serde_json::json;

use crate::cli::labels::Attack;
use crate::keys::label_key;
use crate::render;

/// The numbers of labelled samples to give attackers.
const LABELLED: [usize; 4] = [10, 30, 100, 1000];

/// Attacks, and reports how much was found.
pub fn run(args: &Attack, quiet: bool) -> Result<()> {
    let key = label_key(&args.key, "--key", &args.identities, quiet);
    let attacks = Attacks::new(&args.model, &key?, args.data.seed)?;
    let mut found = vec![attacks.rows()];
    if let Some(data) = crate::commands::assess::data(&args.data)? {
        let ran = attacks.run(&data, &args.data.options())?;
        found.extend(attacks.answers(&ran, data.labels.as_deref()));
        if let Some(labels) = &data.labels {
            for n in LABELLED.into_iter().filter(|n| n * 2 <= data.n) {
                found.push(Found {
                    attack: format!("answers to {n} samples with labels"),
                    got: learn::accuracy(&ran.answers, labels, n, args.data.seed)?,
                    floor: learn::accuracy(&ran.features, labels, n, args.data.seed)?,
                    what: "accuracy; beside it, from features",
                });
            }
            found.extend(attacks.wrong_keys(&ran, labels)?);
        }
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
