//! Prints what attackers get, models by presets: `figures MODEL DATA [LABELS] [key=value]...`.
//!
//! Keys: `limit`, `scale`, `seed`, `kind` (how the digits of `fixtures/models/digits_test.csv` are fed), `presets`, `base` (a
//! public model), `labels` (how many attackers have), `html` (a file for the page), `plots` (a folder for the pictures), `json`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use onnxseal_assess::data::Array;
use onnxseal_assess::engine::Values;
use onnxseal_assess::{
    DataOptions, DataSet, Options, PublicModel, Silent, Subject, assess, report,
};

fn main() {
    let (pairs, paths): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.contains('='));
    let value = |key: &str| {
        pairs
            .iter()
            .find_map(|pair| pair.strip_prefix(&format!("{key}=")))
    };
    let number = |key: &str| value(key).map(|value| value.parse::<f64>().unwrap());
    let mut options = DataOptions::default();
    options.limit = number("limit").map(|limit| limit as usize);
    options.scale = number("scale").unwrap_or(1.0);
    options.seed = number("seed").unwrap_or(0.0) as u64;
    let subject = Subject::plain(Path::new(&paths[0])).unwrap();
    let labels = paths.get(2).map(Path::new);
    let mut data = paths
        .get(1)
        .map(|path| DataSet::load(Path::new(path), labels, &options).unwrap());
    if let (Some(data), Some(kind)) = (&mut data, value("kind")) {
        fed(&mut data.arrays[0], kind);
    }
    let mut how = Options::default();
    how.seed = options.seed;
    how.n_random = number("n").map_or(how.n_random, |n| n as usize);
    if let Some(presets) = value("presets") {
        let preset = |name: &str| name.parse::<onnxseal_core::Preset>().unwrap().into();
        how.candidates = presets.split(',').map(preset).collect();
    }
    if let Some(sizes) = value("labels") {
        how.attacker_samples = sizes.split(',').map(|n| n.parse().unwrap()).collect();
    }
    let base = value("base").map(|path| Subject::plain(Path::new(path)).unwrap());
    how.base = base
        .as_ref()
        .map_or(PublicModel::Unknown, PublicModel::Known);
    let assessment = assess(&subject, data.as_ref(), &how, &Silent).unwrap();
    if let Some(page) = value("html") {
        std::fs::write(page, report::html(&assessment)).unwrap();
    }
    if let Some(folder) = value("plots") {
        std::fs::create_dir_all(folder).unwrap();
        for (name, svg) in report::plots(&assessment) {
            std::fs::write(Path::new(folder).join(name), svg).unwrap();
        }
    }
    if value("json").is_some() {
        println!("{}", serde_json::to_string_pretty(&assessment).unwrap());
        return;
    }
    let original = &assessment.original;
    println!(
        "{}: {} {:.3}, n {}, {:.1} s",
        paths[0], assessment.metric.name, original.value, original.n_samples, assessment.seconds
    );
    for floor in &assessment.floors {
        println!(
            "  floor {:?} {:?}: {:.3}",
            floor.kind, floor.n_labels, floor.measure.value
        );
    }
    for candidate in &assessment.candidates {
        println!(
            "  {} {:.1} % {}",
            candidate.name,
            candidate.share * 100.0,
            candidate.verdict
        );
        for row in &candidate.attacks {
            let value = row
                .measure
                .as_ref()
                .map_or(f64::NAN, |measure| measure.value);
            let n_nan = row.measure.as_ref().map_or(0, |measure| measure.n_nan);
            println!(
                "    {:40} {value:.3} over {:.3} {} {:?} nan {n_nan} {:?} {:?}",
                row.name, row.floor, row.verdict, row.seeds, row.layer, row.attack
            );
        }
        for note in &candidate.notes {
            println!("    {note}");
        }
    }
    assessment
        .notes
        .iter()
        .for_each(|note| println!("  {note}"));
}

/// Pixels from 0 to 16 as a model of the digits is fed them.
fn fed(array: &mut Array, kind: &str) {
    let pixels: Vec<f64> = (0..array.values.len())
        .map(|i| array.values.at(i))
        .collect();
    let scaled = || Values::F32(pixels.iter().map(|pixel| (pixel / 16.0) as f32).collect());
    (array.dims, array.values) = match kind {
        "tokens" => (
            vec![64],
            Values::I64(
                pixels
                    .iter()
                    .enumerate()
                    .map(|(i, pixel)| *pixel as i64 + 17 * (i as i64 % 64))
                    .collect(),
            ),
        ),
        "flat" => (
            vec![64],
            Values::F32(pixels.iter().map(|pixel| *pixel as f32).collect()),
        ),
        "rows" => (vec![8, 8], scaled()),
        "nhwc" => (vec![8, 8, 1], scaled()),
        _ => (vec![1, 8, 8], scaled()),
    };
}
