//! Editions: how smooth their curves are, how near tuned ones come to their targets, and what
//! repairs them.
//!
//!     ORT_DYLIB_PATH=... cargo bench -p onnxseal-assess --bench tiers -- [MODEL IMAGES LABELS SCALE]...
//!
//! Every line has a figure beside the bound that it is held to. Targets lie at a half and at three
//! quarters of the way from the highest floor to the original. Further models are given as for the
//! bench `strength`. Nothing is asserted.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use common::{DIGITS, FIXTURES, digits, images};
use onnxseal_assess::tune::{Target, Tuning};
use onnxseal_assess::{Error, NamedPolicy, Options, Silent, Subject, assess, tune};
use onnxseal_core::{Policy, Preset};
use onnxseal_data::DataSet;

/// Shares of the curve: as many as `tune` begins with.
const N_SHARES: usize = 15;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let mut gains = Vec::new();
    for (name, kind) in DIGITS {
        let subject = Subject::plain(Path::new(&format!("{FIXTURES}{name}.onnx"))).unwrap();
        gains.extend(line(name, &subject, &digits(kind)));
    }
    for model in arguments.chunks_exact(4) {
        let subject = Subject::plain(Path::new(&model[0])).unwrap();
        let name = Path::new(&model[0]).file_stem().unwrap().to_string_lossy();
        gains.extend(line(&name, &subject, &images(model, None)));
    }
    let mean = gains.iter().sum::<f64>() / gains.len().max(1) as f64;
    let most = gains.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    println!(
        "repair without labels, {} editions: {:+.1} points on average (at most +5), {:+.1} at most (+10): {}",
        gains.len(),
        mean * 100.0,
        most * 100.0,
        met(mean <= 0.05 && most <= 0.1)
    );
}

/// Prints the figures of a model, and returns what fills and statistics estimated anew add to each
/// of its editions.
fn line(name: &str, subject: &Subject, data: &DataSet) -> Vec<f64> {
    let tuning = match tuned(subject, data) {
        Ok(tuning) => tuning,
        Err(error) => {
            println!("{name}: {error}");
            return Vec::new();
        }
    };
    let even = |share: f64| (share * 16.0).fract() == 0.0;
    let curve = tuning.curve.iter().filter(|point| even(point.share));
    let (mut top, mut dip) = (f64::NEG_INFINITY, 0.0_f64);
    let mut shown = Vec::new();
    for point in curve.take(N_SHARES) {
        let value = point.evaluation.value;
        top = top.max(value);
        dip = dip.max(top - value);
        shown.push(format!("{:.2}", value));
    }
    println!(
        "{name}: curve {}; largest dip {:.1} points (at most 10): {}",
        shown.join(" "),
        dip * 100.0,
        met(dip <= 0.1)
    );
    for tier in &tuning.tiers {
        let Some(target) = tier.target else { continue };
        let off = (tier.point.evaluation.value - target).abs();
        let verdict = match tuning.n_calibration >= 500 {
            true => met(off <= 0.07),
            false => "too few samples to hold it to that",
        };
        println!(
            "  tier {} at {:.1} %: {:.3} for {target:.3}, {:.1} points off (at most 7, with 500 samples and more): {verdict}",
            tier.name,
            tier.point.share * 100.0,
            tier.point.evaluation.value,
            off * 100.0
        );
    }
    let policy = tuning.policy_text(&Preset::Balanced.policy_text());
    let policy = Policy::parse(&policy).unwrap();
    let mut options = Options::default();
    options.attacker_samples = vec![100];
    options.candidates = vec![NamedPolicy {
        name: name.to_owned(),
        policy,
    }];
    let assessment = assess(subject, Some(data), &options, &Silent).unwrap();
    let editions = assessment
        .candidates
        .iter()
        .filter(|row| row.tier.is_some());
    let gains = editions.filter_map(|edition| {
        let as_it_is = edition.attacks.first()?.measure.as_ref()?.value;
        let repaired = edition.best_fill_attack()?.measure.as_ref()?.value;
        Some(repaired - as_it_is)
    });
    gains.collect()
}

fn tuned(subject: &Subject, data: &DataSet) -> Result<Tuning, Error> {
    let with = |values: [f64; 2]| {
        let names = ["trial", "standard"].iter().zip(values);
        let target = |(name, value): (&&str, f64)| Target {
            name: (*name).to_owned(),
            value,
        };
        let targets: Vec<Target> = names.map(target).collect();
        let policy = Policy::preset(Preset::Balanced);
        let targets = (&targets[..], "full");
        tune(
            subject,
            data,
            &policy,
            targets,
            &Options::default(),
            &Silent,
        )
    };
    // Floors and the original are what a first look is for: any targets will do that are not
    // refused.
    let mut assessed = Options::default();
    assessed.attacker_samples = vec![100];
    assessed.candidates = vec![Preset::Balanced.into()];
    let found = assess(subject, Some(data), &assessed, &Silent)?;
    let floors = found.floors.iter();
    let raw = floors.filter(|floor| {
        use onnxseal_assess::assessment::FloorKind;
        matches!(floor.kind, FloorKind::Constant | FloorKind::RawProbe)
    });
    let floor = raw.map(|floor| floor.measure.value).fold(0.0, f64::max);
    let between = |part: f64| floor + part * (found.original.value - floor);
    with([between(0.5), between(0.75)])
}

fn met(is_met: bool) -> &'static str {
    match is_met {
        true => "met",
        false => "MISSED",
    }
}
