//! `onnxseal labels attack`

use std::io::Write as _;

use anyhow::Result;
use onnxseal_assess::learn;
use onnxseal_engine::Table as Rows;
use onnxseal_labels::attack::{chance, cluster, purity};
use onnxseal_labels::head::layer_of;
use onnxseal_labels::{Authority, Decoder, Table, classes};
use onnxseal_rewrite::Files;
use serde_json::json;

use super::inspect::table_of;
use super::layer_run::{LayerRun, Ran};
use crate::cli::labels::Attack;
use crate::exit::Usage;
use crate::keys::label_key;
use crate::render;

/// Labelled samples that an attacker has.
const LABELLED: [usize; 4] = [10, 30, 100, 1000];

/// Unlabelled samples whose answers are clustered, at most.
const MAX_ANSWERED: usize = 300;

/// Wrong keys that are tried.
const WRONG_KEYS: usize = 200;

/// Rows of models that all wrong keys are tried on.
const MAX_ROWS: u32 = 2000;

/// What one attack got, and what it is held against.
struct Found {
    attack: String,
    got: f64,
    floor: f64,
    what: &'static str,
}

/// Attacks, and tells how much was found.
pub fn run(args: &Attack, quiet: bool) -> Result<()> {
    let files = Files::open(&args.model)?;
    let table = files.with(table_of)?;
    let key = label_key(&args.key, "--key", &args.identities, quiet)?;
    let decoder = Decoder::new(&table, &key)?;
    let shares = decoder.shares();
    let (places, of_class): (Vec<usize>, Vec<usize>) = shares.into_iter().unzip();
    let k = decoder.classes();
    let layer = files.with(|source| layer_of(source, table.answers()))?;
    let mut found = Vec::new();
    let mut group = |attack: String, rows: &nalgebra::DMatrix<f64>| {
        let rows = rows.select_rows(&places);
        let best = cluster(&rows, k, args.data.seed)
            .iter()
            .map(|groups| purity(groups, &of_class))
            .fold(0.0, f64::max);
        found.push(Found {
            attack,
            got: best,
            floor: chance(&of_class, k),
            what: "purity of rows",
        });
    };
    let matrix = nalgebra::DMatrix::from_row_slice(layer.rows, layer.columns, &layer.weights);
    group("rows alone, without data".into(), &matrix);
    if let Some(data) = crate::commands::assess::data(&args.data)? {
        let mut run = LayerRun::new(&args.model, &files, &layer.input, table.answers())?;
        let samples = run.samples(&data, &args.data)?;
        let Ran { features, answers } = run.run(&samples, data.n)?;
        if answers.width != table.n_rows() as usize {
            return Err(Usage("the layer answers for several positions of a sample: attacks from answers are for one".into()).into());
        }
        let n = answers.n_rows().min(MAX_ANSWERED);
        let by_row = nalgebra::DMatrix::from_fn(answers.width, n, |row, sample| {
            answers.row(sample).get(row).copied().map_or(0.0, f64::from)
        });
        group(format!("answers to {n} samples without labels"), &by_row);
        if let Some(labels) = &data.labels {
            for n in LABELLED.into_iter().filter(|n| n * 2 <= data.n) {
                found.push(Found {
                    attack: format!("answers to {n} samples with labels"),
                    got: learn::accuracy(&answers, labels, n, args.data.seed)?,
                    floor: learn::accuracy(&features, labels, n, args.data.seed)?,
                    what: "accuracy; beside it, from features",
                });
            }
            if table.n_rows() <= MAX_ROWS {
                let right = wrong_keys(&table, &answers, labels)?;
                found.push(Found {
                    attack: format!("{WRONG_KEYS} wrong keys, without their check"),
                    got: right,
                    floor: 1.0 / k as f64,
                    what: "accuracy; beside it, chance",
                });
            }
        }
    }
    show(&found, args.json)
}

/// The mean accuracy of keys of other authorities.
fn wrong_keys(table: &Table, answers: &Rows, labels: &[i64]) -> Result<f64> {
    let mut right = 0;
    let shape = [answers.n_rows(), answers.width];
    for _ in 0..WRONG_KEYS {
        let mut authority = Authority::generate(table.collusion(), None)?;
        authority.add_user("nobody")?;
        let decoder = Decoder::unchecked(table, &authority.user_key("nobody")?)?;
        let logits = decoder.decode(&answers.values, &shape)?;
        let found = classes(&logits, decoder.classes());
        right += found
            .iter()
            .zip(labels)
            .filter(|(class, label)| **class as i64 == **label)
            .count();
    }
    Ok(right as f64 / (WRONG_KEYS * answers.n_rows()).max(1) as f64)
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
            "{:<42} {:>6.1} %  floor {:>6.1} %   {}",
            row.attack,
            100.0 * row.got,
            100.0 * row.floor,
            row.what
        )?;
    }
    Ok(())
}
