//! Random models: a session of the protected model gives what ONNX Runtime gives for the plain one,
//! bit for bit, or neither has an answer, or ours says why not.
//!
//! `ONNXSEAL_ROUNDS` says how many, `ONNXSEAL_SEED` which: round `i` of seed `s` is round 0 of seed
//! `s + i`.

mod models;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::path::Path;

use models::Random;
use onnxseal_core::{Policy, Preset};
use onnxseal_runtime::{ErrorKind, Model, Opening, Options, Sharing, Silent};
use onnxseal_testkit::Sample;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::Tensor;

use crate::lab::{self, Lab, builder};

/// Names and values of a run's outputs, as bits; or why there are none.
type Outcome = Result<Vec<(String, Vec<u32>)>, String>;

const SAME: &str = "the same";

/// What `protect` may say of a model that ONNX Runtime runs.
const REASONS: [&str; 4] = [
    "a value with a name of its own",
    "expected keys location",
    "in an external file",
    // Where ONNX Runtime does not come to see that there are none, in a branch that it does not
    // take.
    "expected 0 bytes at offset",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn random_models_compute_the_same_or_not_at_all() {
    if builder().is_none() {
        return;
    }
    let (seed, rounds) = (
        number("ONNXSEAL_SEED", 1933),
        number("ONNXSEAL_ROUNDS", 150),
    );
    let lab = Lab::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in seed..seed + rounds {
        match round(&lab, seed) {
            Ok(outcome) => *counts.entry(outcome).or_default() += 1,
            Err(how) => wrong.push(format!("ONNXSEAL_SEED={seed}: {how}")),
        }
    }
    for (outcome, n) in &counts {
        eprintln!("{n:6} {outcome}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let n_same = counts.get(SAME).copied().unwrap_or(0);
    assert!(n_same * 3 >= rounds, "{n_same} of {rounds} have an answer");
}

/// One model; says what came of it, or what is wrong.
fn round(lab: &Lab, seed: u64) -> Result<String, String> {
    let made = models::model(&mut Random::new(seed));
    let folder = lab.path("plain");
    let path = lab.write(&made, "plain");
    let outcome = compare(lab, &made, &path);
    for folder in [folder, lab.path("protected")] {
        let _ = fs::remove_dir_all(folder);
    }
    outcome
}

fn compare(lab: &Lab, made: &Sample, path: &Path) -> Result<String, String> {
    let plain = (quiet().commit_from_file(path))
        .map_err(|error| error.to_string())
        .and_then(run);
    let protected = lab.path("protected/model.onnx");
    let mut policy = Policy::preset(Preset::Full);
    policy.allow_clear("*").unwrap();
    match lab.protect_to(path, &protected, policy) {
        Ok(_) => (),
        Err(error) => {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            let reason = REASONS.iter().find(|reason| source.contains(**reason));
            if let Some(reason) = reason {
                check_refusal(lab, made, reason)?;
            }
            return match (reason, plain) {
                (Some(reason), Ok(_)) => Ok(format!("refused, though it runs: {reason}")),
                (Some(reason), Err(_)) => Ok(format!("refused, and does not run: {reason}")),
                (None, Err(_)) => Ok("refused, and does not run: other reasons".to_owned()),
                (None, Ok(_)) => Err(format!("refused, though it runs: {error}: {source}")),
            };
        }
    };
    let mut same = true;
    for sharing in [Sharing::WherePossible, Sharing::Never, Sharing::Inline] {
        let options = Options {
            opening: Opening::OnDemand,
            ..Options::default()
        };
        let model = Model::open_with(&protected, &lab.identities, &options, &Silent);
        let model = model.map_err(|error| format!("does not open: {error}"))?;
        let session = model.into_session_with(quiet(), sharing).map_err(|error| {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{error}: {source}")
        });
        match (&plain, session.and_then(run)) {
            (Ok(plain), Ok(ours)) if *plain == ours => {}
            (Ok(_), Ok(_)) => return Err(format!("{sharing:?}: other outputs")),
            (Err(plain), Ok(_)) => {
                return Err(format!(
                    "{sharing:?}: runs, though ONNX Runtime says {plain}"
                ));
            }
            (Ok(_), Err(ours)) => return Err(format!("{sharing:?}: does not run: {ours}")),
            (Err(_), Err(_)) => same = false,
        }
    }
    Ok(if same {
        SAME.to_owned()
    } else {
        "neither runs".to_owned()
    })
}

/// That no session is made of such a model either, where an earlier version has protected it,
/// though it opens.
fn check_refusal(lab: &Lab, made: &Sample, reason: &str) -> Result<(), String> {
    let forged = lab::forge(lab, made, "protected");
    let model = match Model::open(&forged, &lab.identities) {
        Ok(model) => model,
        // There is more to be said against it.
        Err(error) if error.kind() == ErrorKind::Malformed => return Ok(()),
        Err(error) => return Err(format!("does not open: {error}")),
    };
    if model.contents().unwrap().bytes() != made.model {
        return Err("is not what it was".to_owned());
    }
    for sharing in [Sharing::WherePossible, Sharing::Never, Sharing::Inline] {
        let refusal = model.prepare(sharing).err();
        let why = refusal.as_ref().and_then(|refusal| refusal.source());
        if !why.is_some_and(|why| why.to_string().contains(reason)) {
            return Err(format!("{sharing:?}: {refusal:?}, not {reason}"));
        }
    }
    Ok(())
}

/// A builder of sessions that say nothing and start no threads.
fn quiet() -> SessionBuilder {
    let builder = builder().unwrap().with_log_level(LogLevel::Fatal).unwrap();
    builder.with_intra_threads(1).unwrap()
}

fn run(mut session: Session) -> Outcome {
    let x = models::input();
    let x = Tensor::from_array((models::INPUT_DIMS.to_vec(), x)).unwrap();
    let outputs = session.run(ort::inputs!["x" => x]);
    let outputs = outputs.map_err(|error| error.to_string())?;
    let outputs = outputs.iter().map(|(name, value)| {
        // Of what is no tensor of floats, such as a sparse one, it is compared that it is there.
        let values = value.try_extract_tensor::<f32>();
        let values = values.map_or(&[][..], |(_, values)| values);
        let bits = values.iter().map(|value| value.to_bits());
        (name.to_owned(), bits.collect())
    });
    Ok(outputs.collect())
}
