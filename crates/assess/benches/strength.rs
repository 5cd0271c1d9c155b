//! What attackers get of the models of the fixtures, by the default policy; and how long an
//! assessment takes.
//!
//!     ORT_DYLIB_PATH=... cargo bench -p onnxseal-assess --bench strength -- [MODEL IMAGES LABELS SCALE]...
//!
//! Every line has a figure beside the bound that it is held to. Further models, with images and
//! labels as IDX files and what pixels are divided by, are assessed as the fixtures are. Nothing is
//! asserted.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;
use std::time::Instant;

use common::{DIGITS, FIXTURES, digits, images};
use onnxseal_assess::assessment::{Candidate, Measure};
use onnxseal_assess::{
    Assessment, Method, NamedPolicy, Options, PublicModel, Silent, Subject, assess, rank,
};
use onnxseal_core::{Policy, Preset};
use onnxseal_data::{DataOptions, DataSet};

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    println!(
        "model: best fill (at most majority + 0.10), probe with 100 labels (at most floor + 0.05), share"
    );
    for (name, kind) in DIGITS {
        let subject = Subject::plain(Path::new(&format!("{FIXTURES}{name}.onnx"))).unwrap();
        line(
            name,
            &judge(&subject, &digits(kind), &options(&[Preset::Balanced])),
        );
    }
    for model in arguments.chunks_exact(4) {
        let subject = Subject::plain(Path::new(&model[0])).unwrap();
        let data = images(model, None);
        let name = Path::new(&model[0]).file_stem().unwrap().to_string_lossy();
        line(
            &name,
            &judge(&subject, &data, &options(&[Preset::Balanced])),
        );
        let start = Instant::now();
        let all = options(&Preset::ALL);
        judge(&subject, &images(model, Some(1000)), &all);
        println!(
            "  all presets, 1,000 images: {:.1} s (under 60)",
            start.elapsed().as_secs_f64()
        );
        activation(&subject, &data);
    }
    fine_tuned();
}

/// With a ranking by activation, at 5 % of the bytes.
fn activation(subject: &Subject, data: &DataSet) {
    let ranking = rank(
        subject,
        Method::Activation,
        256,
        Some(data),
        &Options::default(),
        &Silent,
    );
    let mut policy = Policy::parse("preset = \"balanced\"\nbudget = 0.05").unwrap();
    policy.set_ranking(ranking.unwrap());
    let mut options = options(&[]);
    options.candidates.push(NamedPolicy {
        name: "activation".into(),
        policy,
    });
    line(
        "  by activation, 5 % of the bytes",
        &judge(subject, data, &options),
    );
}

/// A private model that was fine-tuned from a public one.
fn fine_tuned() {
    let folder = Path::new(FIXTURES).join("../public");
    let open = |name: &str| Subject::plain(folder.join(name)).unwrap();
    let (subject, base) = (open("victim.onnx"), open("base.onnx"));
    let mut scaled = DataOptions::default();
    scaled.scale = Some(255.0);
    let data = DataSet::load(&folder.join("samples.npz"), None, &scaled).unwrap();
    let mut options = options(&Preset::ALL);
    options.base = PublicModel::Known(&base);
    let assessment = judge(&subject, &data, &options);
    for candidate in &assessment.candidates {
        let probe = candidate.probe(100, true).unwrap();
        println!(
            "{} of a fine-tuned model, probe on the public base: {:.3} at {:.1} % (at most {:.3} + 0.05, what full leaves)",
            candidate.name,
            probe.measure.as_ref().map_or(0.0, |measure| measure.value),
            candidate.share * 100.0,
            probe.floor
        );
    }
}

fn options(presets: &[Preset]) -> Options<'static> {
    let mut options = Options::default();
    options.attacker_samples = vec![100];
    options.candidates = presets.iter().map(|preset| (*preset).into()).collect();
    options
}

fn judge(subject: &Subject, data: &DataSet, options: &Options<'_>) -> Assessment {
    assess(subject, Some(data), options, &Silent).unwrap()
}

fn line(name: &str, assessment: &Assessment) {
    let constant = assessment
        .floors
        .first()
        .map_or(0.0, |floor| floor.measure.value);
    for candidate in &assessment.candidates {
        let value = |measure: Option<&Measure>| measure.map_or(0.0, |m| m.value);
        let fill = value(
            candidate
                .best_fill_attack()
                .and_then(|row| row.measure.as_ref()),
        );
        let probe = candidate.probe(100, false);
        println!(
            "{name} ({:.3}): fill {fill:.3} over {constant:.3}, probe {:.3} over {:.3}, {:.1} % of {} bytes: {}",
            assessment.original.value,
            value(probe.and_then(|row| row.measure.as_ref())),
            probe.map_or(0.0, |row| row.floor),
            candidate.share * 100.0,
            candidate.weight_bytes,
            verdict(candidate, fill, constant)
        );
    }
}

/// Against the bounds above, whatever the number of samples.
fn verdict(candidate: &Candidate, fill: f64, constant: f64) -> &'static str {
    let probe = candidate
        .probe(100, false)
        .and_then(|row| Some((row.measure.as_ref()?.value, row.floor)));
    match fill <= constant + 0.1 && probe.is_none_or(|(value, floor)| value <= floor + 0.05) {
        true => "met",
        false => "MISSED",
    }
}
