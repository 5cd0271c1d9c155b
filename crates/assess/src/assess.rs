//! Runs an assessment: every attack on every candidate.

use std::time::Instant;

use onnxseal_data::DataSet;

use crate::assessment::{Assessment, Doubt, Fill, Floor, FloorKind, PublicBase};
use crate::attack::base::Base;
use crate::attack::filled;
use crate::attack::normal::convolutions;
use crate::attacker::{Attacker, floors_of};
use crate::bench::Bench;
use crate::error::{Result, attempt};
use crate::everything::Everything;
use crate::options::{NamedPolicy, Options, Progress, PublicModel};
use crate::subject::Subject;
use crate::verdicts::Threshold;
use crate::views::{AttackerView, candidates, views};

/// With fewer samples, intervals are too wide to be useful.
const FEW: usize = 100;

/// Assesses what attackers get from `subject` by every attack on each of the options' candidates,
/// compared with what they get anyway. Without data the inputs are random, and only agreement with
/// the original is measured.
///
/// Attackers know every encrypted position, and have the first part of the data. Attacks that use
/// data are measured on the rest, others on all samples.
///
/// # Errors
/// [`Error::Engine`](crate::Error::Engine) without ONNX Runtime, if that does not run the model,
/// and for data that do not fit the inputs.
pub fn assess(
    subject: &Subject,
    data: Option<&DataSet>,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Assessment> {
    let began = Instant::now();
    let candidates = candidates(subject, options)?;
    progress.begin(10 + candidates.len() as u64 * 15);
    progress.step("original");
    let sizes = &options.attacker_samples;
    Bench::with(subject, data, options, sizes, progress, |bench| {
        assess_on(bench, &candidates, began)
    })
}

fn assess_on(
    bench: &Bench<'_>,
    candidates: &[(String, Option<NamedPolicy>)],
    began: Instant,
) -> Result<Assessment> {
    let (subject, options) = (bench.subject, bench.options);
    let everything = everything(bench)?;
    let base = match options.base {
        PublicModel::Known(public) => Some(base(bench, &everything, public)?),
        PublicModel::Unknown | PublicModel::None => None,
    };
    let attacker = Attacker {
        bench,
        base: base.as_ref(),
    };
    let mut floors = attacker.floors()?;
    // With nothing in clear, the attacks' results are the floor.
    let of_nothing = attacker.tries(&AttackerView {
        name: "floors".to_owned(),
        tier: None,
        clear: everything.files,
        hidden: everything.hidden.clone(),
        is_everything: true,
        files: None,
    })?;
    floors.extend(floors_of(&of_nothing));
    let threshold = Threshold {
        floors: &floors,
        original: &bench.original,
        margin: bench.margin,
        is_rate: bench.judge.is_rate(),
        doubt: (bench.doubt()).or(everything.lacks_some.then_some(Doubt::Unreplaced)),
        base: options.base,
    };
    let mut assessed = Vec::new();
    for (name, named) in candidates {
        let policy = named.as_ref().map(|named| &named.policy);
        let mut rows = Vec::new();
        // Each edition is judged against the next higher one, the highest against the original.
        let mut next = bench.original.value;
        for view in views(subject, &everything.hidden, name, policy)? {
            let tried = match view.files {
                None if view.is_everything => of_nothing.clone(),
                _ => attacker.tries(&view)?,
            };
            let has_key = view.tier.is_some();
            let candidate = threshold.judges(view, tried, has_key.then_some(next));
            if has_key {
                next = candidate.as_it_is();
            }
            rows.push(candidate);
        }
        // The view without a key first, then the tiers, the least first.
        rows[1..].reverse();
        assessed.append(&mut rows);
    }
    Ok(Assessment {
        model: subject.name.clone(),
        model_bytes: subject.files().total_bytes(),
        engine: bench.engine_row(),
        data: bench.data_row(),
        seed: options.seed,
        metric: bench.judge.row(),
        margin: bench.margin,
        public_base: match (options.base, &base) {
            (PublicModel::Known(public), Some(base)) => PublicBase::Tried {
                model: public.name.clone(),
                n_matched: base.n_matched(),
                n_tensors: base.n_tensors,
            },
            (PublicModel::None, _) => PublicBase::None,
            _ => PublicBase::NotTried,
        },
        original: bench.original.clone(),
        notes: notes(bench, base.as_ref(), &floors),
        floors,
        candidates: assessed,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Hides all that ONNX Runtime can run the model without.
fn everything(bench: &Bench<'_>) -> Result<Everything> {
    let all = Everything::of(bench.subject, false)?;
    bench.step("floors")?;
    let random = filled(&all.files, &all.hidden, Fill::Random, None, 0);
    match attempt(bench.run(&random, false, "floors"))? {
        Ok(_) => Ok(all),
        Err(_) => Everything::of(bench.subject, true),
    }
}

/// Matches the public model to the weights of the model, and measures it.
fn base(bench: &Bench<'_>, everything: &Everything, public: &Subject) -> Result<Base> {
    let (subject, Everything { files, hidden, .. }) = (bench.subject, everything);
    let mut base = Base::of(hidden, public)?;
    let alone = filled(files, hidden, Fill::PublicBase, Some(&base), 0);
    base.is_same = alone == *files;
    base.convolutions = convolutions(&subject.located()?, &alone, bench)?;
    Ok(base)
}

/// Notes what the figures do not rule out.
fn notes(bench: &Bench<'_>, base: Option<&Base>, floors: &[Floor]) -> Vec<String> {
    let (mut notes, n_nan) = (Vec::new(), bench.original.n_nan);
    if bench.is_random() {
        notes.push("The inputs are random numbers: differences in their answers say little about real inputs.".to_owned());
    }
    let n_left = bench.split.evaluation.len();
    if n_left < FEW {
        notes.push(format!(
            "Only {n_left} samples are left to measure on: intervals are wide."
        ));
    }
    for size in &bench.split.dropped {
        notes.push(format!("No attacker with {size} labels was tried, because that would leave less than half of the {} samples to measure on.", bench.n));
    }
    if !bench.has_probes() {
        notes.push("No probe was tried, because probes need samples with classes.".to_owned());
    }
    if n_nan > 0 {
        notes.push(format!(
            "The original itself gives answers that are not numbers for {n_nan} samples."
        ));
    }
    let mut kinds = floors.iter().map(|floor| floor.kind);
    if kinds.all(|kind| kind != FloorKind::FullRandom) {
        notes.push(
            "ONNX Runtime does not run the model without its weights, so that floor is missing."
                .to_owned(),
        );
    }
    if let Some(base) = base {
        let (n_matched, n) = (base.n_matched(), base.n_tensors);
        if base.is_same {
            notes.push("The public base has the same weights as the model, so attackers who have it know them all.".to_owned());
        }
        if n_matched < n {
            notes.push(format!("The public base has {n_matched} of the {n} weight tensors; means of channels, or random numbers, stood in for the others."));
        }
    }
    notes.push("Fine-tuning was not tried, because it needs a training framework; with enough data it beats every figure here.".to_owned());
    notes
}
