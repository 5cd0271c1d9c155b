//! The assessment: every attack on every candidate.

use std::time::Instant;

use onnxseal_data::DataSet;

use crate::assessment::{Assessment, Candidate, DataRow, Floor, Opening, PublicBase};
use crate::attack::base::Base;
use crate::attacker::Attacker;
use crate::bench::Bench;
use crate::error::Result;
use crate::hidden::Hidden;
use crate::opening;
use crate::options::{NamedPolicy, Options, Progress, PublicModel};
use crate::report::floor_in_words;
use crate::sealed::Sealed;
use crate::subject::Subject;
use crate::verdicts::Bar;
use crate::views::{View, candidates, views};

/// Samples below which intervals are too wide to say much.
const FEW: usize = 100;

/// Assesses what attackers get from `subject`: what each of the options' candidates leaves them, by every attack, beside
/// what they get anyway. Without data the inputs are random, and only agreement with the original is measured.
///
/// Attackers know every encrypted position. They have the first part of the data; answers that use none of it are
/// measured on all samples, the others on the rest.
///
/// # Errors
/// [`Error::Engine`] without ONNX Runtime, if that does not run the model, and for data that are for other inputs;
/// [`Error::Label`] for labels of other classes; [`Error::Cancelled`].
pub fn assess(
    subject: &Subject,
    data: Option<&DataSet>,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Assessment> {
    let began = Instant::now();
    let candidates = candidates(subject, options)?;
    progress.begin(9 + candidates.len() as u64 * 15);
    progress.step("original");
    let labels = (options, &options.attacker_samples[..]);
    Bench::with(subject, data, labels, progress, |bench| {
        assess_on(bench, subject, data, options, &candidates, began)
    })
}

fn assess_on(
    bench: &Bench<'_>,
    subject: &Subject,
    data: Option<&DataSet>,
    options: &Options<'_>,
    candidates: &[(String, Option<NamedPolicy>)],
    began: Instant,
) -> Result<Assessment> {
    let is_random = data.is_none();
    let has_probes = bench.has_probes() && !is_random;
    let everything = Hidden::everything(subject)?;
    let base = match options.base {
        PublicModel::Known(public) => Some(bench.base(subject, &everything, public)?),
        PublicModel::Unknown | PublicModel::None => None,
    };
    let mut floors = bench.floors(has_probes)?;
    let attacker = Attacker {
        bench,
        subject,
        base: base.as_ref(),
        has_probes,
        seed: options.seed,
    };
    // With nothing in clear, what attackers get is the floor.
    let of_nothing = attacker.tries(&View {
        name: "floors".to_owned(),
        tier: None,
        hidden: everything,
        files: None,
    })?;
    floors.extend(of_nothing.floors());
    let bar = Bar {
        floors: &floors,
        margin: bench.margin,
        is_rate: bench.judge.is_rate(),
        is_thorough: !is_random
            && (has_probes || !bench.judge.is_rate())
            && !matches!(options.base, PublicModel::Unknown)
            && !base.as_ref().is_some_and(|base| base.is_same),
    };
    let mut assessed = Vec::new();
    for (name, policy) in candidates {
        let sealed = match policy {
            Some(named) if !named.policy.tiers().is_empty() => {
                Some(Sealed::new(subject, &named.policy)?)
            }
            _ => None,
        };
        let mut rows = Vec::new();
        // Each edition is held against the next higher one, the highest against the original.
        let mut next = bench.original.value;
        for view in views(subject, name, policy.as_ref(), sealed.as_ref())? {
            let tried = if view.hidden.is_everything() && view.files.is_none() {
                of_nothing.clone()
            } else {
                attacker.tries(&view)?
            };
            let has_key = view.tier.is_some();
            let mut candidate = bar.judges(&view, tried, has_key.then_some(next));
            if has_key {
                next = candidate.as_it_is();
            } else {
                add_opening(
                    &mut candidate,
                    bench,
                    subject,
                    policy.as_ref(),
                    sealed.as_ref(),
                    options,
                )?;
            }
            rows.push(candidate);
        }
        // Without a key first, then the tiers, the least first.
        rows[1..].reverse();
        assessed.append(&mut rows);
    }
    let source = data.map_or_else(|| "random inputs".to_owned(), |data| data.source.clone());
    Ok(Assessment {
        model: subject.name.clone(),
        model_bytes: subject.files().total_bytes(),
        engine: bench.engine_row(),
        data: DataRow {
            is_random,
            ..bench.data_row(&source)
        },
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
        notes: notes(bench, base.as_ref(), is_random, &floors),
        floors,
        candidates: assessed,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Says of a candidate what it costs to open it.
fn add_opening(
    candidate: &mut Candidate,
    bench: &Bench<'_>,
    subject: &Subject,
    policy: Option<&NamedPolicy>,
    sealed: Option<&Sealed>,
    options: &Options<'_>,
) -> Result<()> {
    match policy {
        None => {
            let protected = subject.protected.as_ref();
            candidate.opening = protected.map(|protected| Opening {
                seconds: protected.opening_seconds,
                bytes: protected.bytes,
            });
        }
        Some(named) if options.measures_opening => {
            bench.step("opening")?;
            let opening = match sealed {
                Some(sealed) => opening::measure(sealed),
                None => {
                    Sealed::new(subject, &named.policy).and_then(|sealed| opening::measure(&sealed))
                }
            };
            match opening {
                Ok(opening) => candidate.opening = Some(opening),
                Err(error) => candidate
                    .notes
                    .push(format!("opening was not measured: {error}")),
            }
        }
        Some(_) => {}
    }
    Ok(())
}

/// What the figures do not rule out.
fn notes(bench: &Bench<'_>, base: Option<&Base>, is_random: bool, floors: &[Floor]) -> Vec<String> {
    let mut notes = Vec::new();
    if is_random {
        notes.push("The inputs are random numbers: that a model answers them otherwise says little about real inputs.".to_owned());
    }
    if bench.split.evaluation.len() < FEW {
        notes.push(format!(
            "Only {} samples are left to measure on: intervals are wide.",
            bench.split.evaluation.len()
        ));
    }
    for size in &bench.split.dropped {
        notes.push(format!("No attacker with {size} labels was tried: that leaves less than half of the {} samples to measure on.", bench.n));
    }
    if !bench.has_probes() || is_random {
        notes.push("No probe was tried: it takes samples with classes.".to_owned());
    }
    if bench.original.n_nan > 0 {
        notes.push(format!(
            "The original itself answers {} samples with what is no number.",
            bench.original.n_nan
        ));
    }
    let near = bench.original.value - bench.margin;
    let near = floors.iter().filter(|floor| floor.measure.value >= near);
    for floor in near {
        notes.push(format!(
            "Without any encrypted weight, attackers come within the margin of the original ({}): no attack that is held against that can be seen to leak.",
            floor_in_words(floor)
        ));
    }
    if base.is_some_and(|base| base.is_same) {
        notes.push("The public base has the very weights of the model: nothing is left to hide from whoever has it.".to_owned());
    }
    if let Some(base) = base
        && base.n_matched() < base.n_tensors
    {
        notes.push(format!(
            "The public base has {} of the {} weight tensors; means of channels, or random numbers, stood in for the others.",
            base.n_matched(),
            base.n_tensors
        ));
    }
    notes.push("Fine-tuning was not tried: it takes a training framework, and with enough data it beats every figure here.".to_owned());
    notes
}
