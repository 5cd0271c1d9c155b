//! Shares of tiers that give editions the accuracies that are wanted.

use onnxseal_data::DataSet;
use onnxseal_data::random::{rng, shuffled};
use onnxseal_engine::{Files, Table};
use onnxseal_plan::{Policy, Tier};
use serde::Serialize;

use crate::assessment::{DataRow, EngineRow, Floor, FloorKind, Measure, MetricRow};
use crate::attack::probe::{Features, HEADS};
use crate::bench::Bench;
use crate::error::{Error, Result, attempt};
use crate::options::{Options, Progress};
use crate::sealed::Sealed;
use crate::subject::Subject;

/// Shares that are tried at a time: as many tiers as a model may have below the highest.
const N_SHARES: u64 = 15;

/// Shares that are so near to each other are not told apart any further.
const NARROW: f64 = 1.0 / 128.0;

/// Labels of the linear classifier on the inputs that an edition must beat.
const N_LABELS: usize = 100;

/// Samples for calibration below which a share is not worth much.
const FEW_SAMPLES: usize = 500;

/// Encrypted subsequences below which shares are coarse.
const FEW_UNITS: u64 = 64;

/// How far from its target an edition may be before a note says so, for rates.
const FAR: f64 = 0.05;

/// A tier that is wanted: its name, and the value of the metric that its edition shall have.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The tier.
    pub name: String,
    /// The value.
    pub value: f64,
}

/// The curve of a model's editions, and the shares of the tiers that were wanted.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Tuning {
    /// The model, as the caller calls it.
    pub model: String,
    /// ONNX Runtime, which ran the model.
    pub engine: EngineRow,
    /// The data.
    pub data: DataRow,
    /// From it all that is random follows.
    pub seed: u64,
    /// What is measured.
    pub metric: MetricRow,
    /// Samples that shares were chosen by.
    pub n_calibration: usize,
    /// The others, on which all figures but `calibration` are measured.
    pub n_evaluation: usize,
    /// Encrypted subsequences: the steps that a share can go in.
    pub n_units: u64,
    /// The original.
    pub original: Measure,
    /// What somebody gets without the model, or by passing the input through.
    pub floors: Vec<Floor>,
    /// What each share gives, by share.
    pub curve: Vec<Point>,
    /// The tiers that were wanted, the least first, and the highest.
    pub tiers: Vec<TunedTier>,
    /// What to know about the figures: sentences for people.
    pub notes: Vec<String>,
}

/// What one share gives.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// Share of the encrypted bytes that the edition opens.
    pub share: f64,
    /// The metric on the samples for calibration.
    pub calibration: f64,
    /// The same on the others.
    pub evaluation: Measure,
}

/// One tier with its share.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TunedTier {
    /// Its name.
    pub name: String,
    /// What was wanted; absent for the highest.
    pub target: Option<f64>,
    /// The share for the policy; 1 for the highest.
    pub share: f64,
    /// The metric on the samples for calibration.
    pub calibration: f64,
    /// The same on the others.
    pub evaluation: Measure,
}

impl Tuning {
    /// The text of a policy without tiers, with these tiers behind it.
    pub fn policy_text(&self, base: &str) -> String {
        let mut text = base.trim_end().to_owned();
        text.push('\n');
        for tier in &self.tiers {
            text.push_str(&format!("\n[[tier]]\nname = \"{}\"\n", tier.name));
            if tier.share < 1.0 {
                text.push_str(&format!("share = {}\n", tier.share));
            }
        }
        text
    }

    /// The tiers for a policy.
    pub fn policy_tiers(&self) -> Vec<Tier> {
        let tier = |tier: &TunedTier| Tier {
            name: tier.name.clone(),
            share: tier.share,
        };
        self.tiers.iter().map(tier).collect()
    }
}

/// Finds shares for the tiers of `subject` that bring editions to their `targets`, the least first; `highest` is the name of
/// the tier that opens everything. What is encrypted follows from `policy`, which has no tiers of its own.
///
/// Shares are chosen on one half of the samples, drawn by the seed; figures are from the other half. Of the options the seed,
/// the way data are fitted, the answer and the metric are used.
///
/// # Errors
/// [`Error::Usage`] for targets that make no sense: not ascending, at or above the original, or at or below what a linear
/// classifier on the inputs gets, or the input itself passed through. As [`assess`](crate::assess()) for model and data.
pub fn tune(
    subject: &Subject,
    data: &DataSet,
    policy: &Policy,
    (targets, highest): (&[Target], &str),
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Tuning> {
    check_names(policy, targets, highest)?;
    let n_runs = N_SHARES * (1 + targets.len() as u64) + targets.len() as u64;
    progress.begin(2 + n_runs);
    progress.step("original");
    let labels = (options, &[N_LABELS][..]);
    Bench::with(subject, Some(data), labels, progress, |bench| {
        tune_on(bench, subject, data, policy, (targets, highest), options)
    })
}

fn tune_on(
    bench: &Bench<'_>,
    subject: &Subject,
    data: &DataSet,
    policy: &Policy,
    (targets, highest): (&[Target], &str),
    options: &Options<'_>,
) -> Result<Tuning> {
    let mut calibration = shuffled(bench.n, &mut rng(options.seed, "tune"));
    let evaluation = calibration.split_off(bench.n.div_ceil(2));
    let mut tuner = Tuner {
        bench,
        subject,
        policy,
        calibration,
        evaluation,
        points: Vec::new(),
        n_units: 0,
    };
    let (original_calibration, original) = tuner.measured(subject.files())?;
    bench.step("floors")?;
    let floors = tuner.floors()?;
    check_values(bench, targets, original_calibration, &floors)?;

    tuner.try_shares(0.0, 1.0)?;
    for target in targets {
        let (low, high) = tuner.bracket(target.value);
        if high - low > NARROW {
            tuner.try_shares(low, high)?;
        }
    }
    let mut tiers = Vec::new();
    for target in targets {
        tiers.push(Tier {
            name: target.name.clone(),
            share: rounded(tuner.nearest(target.value)?),
        });
    }
    tiers.push(Tier {
        name: highest.to_owned(),
        share: 1.0,
    });
    let mut whole = policy.clone();
    let too_close = |error: onnxseal_plan::Error| {
        Error::Usage(format!(
            "the targets are too close together for the steps that this model has: {error}; put them further apart, or give the policy a smaller `unit`"
        ))
    };
    whole.set_tiers(tiers.clone()).map_err(too_close)?;
    let sealed = Sealed::new(subject, &whole)?;
    let mut tuned = Vec::new();
    for (i, tier) in tiers.iter().enumerate() {
        bench.step(&format!("tier {}", tier.name))?;
        let (calibration, evaluation) = tuner.measured(&sealed.files(&tier.name)?)?;
        tuned.push(TunedTier {
            name: tier.name.clone(),
            target: targets.get(i).map(|target| target.value),
            share: tier.share,
            calibration,
            evaluation,
        });
    }
    let notes = tuner.notes(&tuned);
    tuner.points.sort_by(|a, b| a.share.total_cmp(&b.share));
    tuner.points.dedup_by(|a, b| a.share == b.share);
    Ok(Tuning {
        model: subject.name.clone(),
        engine: bench.engine_row(),
        data: bench.data_row(&data.source),
        seed: options.seed,
        metric: bench.judge.row(),
        n_calibration: tuner.calibration.len(),
        n_evaluation: tuner.evaluation.len(),
        n_units: tuner.n_units,
        original,
        floors,
        curve: tuner.points,
        tiers: tuned,
        notes,
    })
}

struct Tuner<'t> {
    bench: &'t Bench<'t>,
    subject: &'t Subject,
    policy: &'t Policy,
    calibration: Vec<usize>,
    evaluation: Vec<usize>,
    points: Vec<Point>,
    n_units: u64,
}

impl Tuner<'_> {
    /// What a model gives on both halves. One that ONNX Runtime does not run gives nothing.
    fn measured(&self, files: &Files) -> Result<(f64, Measure)> {
        let judge = &self.bench.judge;
        let Ok(ran) = attempt(self.bench.run(files, false, "an edition"))? else {
            let nothing = judge.rate(&vec![None; self.evaluation.len()], &self.evaluation);
            return Ok((nothing.value, nothing));
        };
        let on = |rows: &[usize]| judge.measure(&ran.answers.picked(rows), rows);
        Ok((on(&self.calibration)?.value, on(&self.evaluation)?))
    }

    /// Tries shares evenly between `low` and `high`.
    fn try_shares(&mut self, low: f64, high: f64) -> Result<()> {
        let share = |i: u64| low + (high - low) * i as f64 / (N_SHARES + 1) as f64;
        let tier = |i: u64| Tier {
            name: format!("t{i}"),
            share: if i > N_SHARES { 1.0 } else { share(i) },
        };
        let mut policy = self.policy.clone();
        let tiers: Vec<Tier> = (1..=N_SHARES + 1).map(tier).collect();
        policy
            .set_tiers(tiers.clone())
            .map_err(onnxseal_core::Error::from)?;
        let sealed = Sealed::new(self.subject, &policy)?;
        let tensors = sealed.report.operators.iter();
        self.n_units = tensors.flat_map(|row| &row.tensors).map(|row| row.k).sum();
        for tier in &tiers[..N_SHARES as usize] {
            self.bench.step(&format!("{:.1} %", tier.share * 100.0))?;
            let (calibration, evaluation) = self.measured(&sealed.files(&tier.name)?)?;
            self.points.push(Point {
                share: tier.share,
                calibration,
                evaluation,
            });
        }
        Ok(())
    }

    /// The shares between which the curve first reaches `value`.
    fn bracket(&self, value: f64) -> (f64, f64) {
        let mut points: Vec<(f64, f64)> = (self.points.iter())
            .map(|point| (point.share, point.calibration))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let reached = points.iter().position(|(_, found)| *found >= value);
        let at = reached.unwrap_or(points.len());
        let share = |i: Option<usize>| i.and_then(|i| points.get(i)).map(|point| point.0);
        (
            share(at.checked_sub(1)).unwrap_or(0.0),
            share(Some(at)).unwrap_or(1.0),
        )
    }

    /// The share that comes nearest to `value`; of several the least.
    fn nearest(&self, value: f64) -> Result<f64> {
        let far = |point: &Point| (point.calibration - value).abs();
        let nearest = self
            .points
            .iter()
            .min_by(|a, b| (far(a).total_cmp(&far(b))).then_with(|| a.share.total_cmp(&b.share)));
        nearest.map(|point| point.share).ok_or(Error::Cancelled)
    }

    /// What somebody gets who has the samples for calibration, and not the model.
    fn floors(&self) -> Result<Vec<Floor>> {
        let (bench, evaluation) = (self.bench, &self.evaluation);
        let floor = |kind, n_labels, measure| Floor {
            kind,
            n_labels,
            measure,
        };
        let constant = bench.judge.constant(evaluation)?;
        let mut floors = vec![floor(FloorKind::Constant, None, constant)];
        if let (true, Some(labels)) = (bench.has_probes(), &bench.judge.labels) {
            let raw = Features::of(&bench.raw());
            let n_labels = bench.split.sizes.first().copied().unwrap_or(0);
            let known = &self.calibration[..n_labels.min(self.calibration.len())];
            let probe = raw.probe(known, labels, &HEADS)?;
            let found = raw.classes(&probe, evaluation);
            let measure = bench.judge.rate(&found, evaluation);
            floors.push(floor(FloorKind::RawProbe, Some(known.len()), measure));
        }
        if let Some(passed) = self.passed_through()? {
            floors.push(floor(FloorKind::PassThrough, None, passed));
        }
        Ok(floors)
    }

    /// What the input gives in place of the output, where it has its size and the output has no classes.
    fn passed_through(&self) -> Result<Option<Measure>> {
        let (bench, rows) = (self.bench, &self.evaluation);
        if bench.judge.is_rate() {
            return Ok(None);
        }
        let mut best: Option<Measure> = None;
        for samples in &bench.samples {
            let width: usize = samples.dims.iter().product();
            if width != bench.judge.original.width {
                continue;
            }
            let of_row = |&row: &usize| row * width..(row + 1) * width;
            let values = rows.iter().flat_map(of_row);
            let table = Table {
                dims: vec![width],
                width,
                values: values.map(|i| samples.values.at(i) as f32).collect(),
            };
            crate::bench::keep(&mut best, bench.judge.measure(&table, rows)?);
        }
        Ok(best)
    }

    fn notes(&self, tuned: &[TunedTier]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.calibration.len() < FEW_SAMPLES {
            notes.push(format!(
                "Only {} samples were left to choose shares by; {FEW_SAMPLES} and more give shares that hold.",
                self.calibration.len()
            ));
        }
        if self.n_units < FEW_UNITS {
            notes.push(format!(
                "Only {} units are encrypted, so shares go in large steps: smaller units or a policy that encrypts more give finer ones.",
                self.n_units
            ));
        }
        for tier in tuned {
            let Some(target) = tier.target else { continue };
            let scale = if self.bench.judge.is_rate() {
                1.0
            } else {
                target.abs()
            };
            if (tier.calibration - target).abs() > FAR * scale {
                notes.push(format!(
                    "No share gives tier {:?} its target {target}: the nearest gives {:.3}. Smaller units or a ranking may give a smoother curve.",
                    tier.name, tier.calibration
                ));
            }
        }
        notes.push("An edition can be repaired as far as its weights and data allow: `assess` with the same policy shows how far.".to_owned());
        notes
    }
}

fn check_names(policy: &Policy, targets: &[Target], highest: &str) -> Result<()> {
    if !policy.tiers().is_empty() {
        let text = "the policy has tiers already: take them out to tune new ones";
        return Err(Error::Usage(text.into()));
    }
    if targets.is_empty() {
        return Err(Error::Usage("there is no target to tune for".into()));
    }
    let n = targets.len() as f64 + 1.0;
    let names = targets.iter().map(|target| target.name.as_str());
    let tiers = (1..).zip(names.chain([highest])).map(|(i, name)| Tier {
        name: name.to_owned(),
        share: f64::from(i) / n,
    });
    // Shares that any tiers could have: what is left to be wrong are names.
    let named = policy.clone().set_tiers(tiers.collect());
    named.map_err(|error| Error::Usage(error.to_string()))
}

fn check_values(
    bench: &Bench<'_>,
    targets: &[Target],
    original: f64,
    floors: &[Floor],
) -> Result<()> {
    let unit = bench.judge.row().unit;
    let shown = |value: f64| format!("{value:.3}{}{unit}", if unit.is_empty() { "" } else { " " });
    let mut below: Option<&Target> = None;
    for target in targets {
        let Target { name, value } = target;
        if let Some(below) = below.filter(|below| *value <= below.value) {
            return Err(Error::Usage(format!(
                "target {} of tier {name:?} is not above that of tier {:?}: name the least tier first",
                shown(*value),
                below.name
            )));
        }
        below = Some(target);
        if value.is_nan() || *value >= original {
            return Err(Error::Usage(format!(
                "target {} of tier {name:?} is not below the original, which gets {}",
                shown(*value),
                shown(original)
            )));
        }
        if let Some(floor) = floors.iter().find(|floor| *value <= floor.measure.value) {
            let how = match floor.kind {
                FloorKind::RawProbe => format!(
                    "a linear classifier on the inputs gets with {} labels and no model",
                    floor.n_labels.unwrap_or(0)
                ),
                FloorKind::PassThrough => "passing the input through gets".to_owned(),
                _ => "the same answer to everything gets".to_owned(),
            };
            return Err(Error::Usage(format!(
                "target {} of tier {name:?} is not above {}, which {how}: an edition as weak as that is worth nothing",
                shown(*value),
                shown(floor.measure.value)
            )));
        }
    }
    Ok(())
}

/// A share as a policy writes it.
fn rounded(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}
