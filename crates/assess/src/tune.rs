//! Finds shares of tiers that give editions the wanted accuracies.

use onnxseal_data::DataSet;
use onnxseal_data::random::{rng, shuffled};
use onnxseal_engine::{Files, Samples};
use onnxseal_plan::{Policy, Tier};
use serde::Serialize;

use crate::assessment::{DataRow, EngineRow, Floor, FloorKind, Measure, MetricRow};
use crate::attack::probe::{Features, HEADS};
use crate::attacker::keep;
use crate::bench::Bench;
use crate::error::{Error, Result, attempt};
use crate::options::{Options, Progress};
use crate::protected_copy::ProtectedCopy;
use crate::subject::Subject;

/// Shares to try at a time: the most tiers that a model may have below the highest.
const N_SHARES: u64 = 15;

/// The search stops at shares this close together.
const NARROW: f64 = 1.0 / 128.0;

/// With fewer samples for calibration, a share is unreliable.
const FEW_SAMPLES: usize = 500;

/// With fewer encrypted subsequences, shares are coarse.
const FEW_UNITS: u64 = 64;

/// Labels of the linear classifier on the inputs, which an edition must beat.
const N_LABELS: usize = 100;

/// For rates: a note reports an edition that is farther from its target.
const FAR: f64 = 0.05;

/// A wanted tier: its name, and the metric's value for its edition.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub name: String,
    pub value: f64,
}

/// The curve of a model's editions, and the shares of the wanted tiers.
#[derive(Clone, Debug, Serialize)]
pub struct Tuning {
    /// The model, as the caller calls it.
    pub model: String,
    pub engine: EngineRow,
    pub data: DataRow,
    pub seed: u64,
    pub metric: MetricRow,
    /// Samples used to choose shares.
    pub n_calibration: usize,
    /// The other samples, on which all figures except `calibration` are measured.
    pub n_evaluation: usize,
    /// Encrypted subsequences, which are the steps of a share.
    pub n_units: u64,
    pub original: Measure,
    /// What an attacker gets without the model, or by passing the input through.
    pub floors: Vec<Floor>,
    /// The points of the curve, by share.
    pub curve: Vec<Point>,
    /// The wanted tiers, the least first, then the highest.
    pub tiers: Vec<TunedTier>,
    /// Notes on the figures: sentences for people.
    pub notes: Vec<String>,
}

/// The values for one share.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Share of the encrypted bytes that the edition opens.
    pub share: f64,
    /// The metric on the samples for calibration.
    pub calibration: f64,
    /// The metric on the other samples.
    pub evaluation: Measure,
}

/// One tier, and where it lies on the curve.
#[derive(Clone, Debug, Serialize)]
pub struct TunedTier {
    pub name: String,
    /// The wanted value; absent for the highest tier.
    pub target: Option<f64>,
    /// The share for the policy, 1 for the highest, and its values.
    #[serde(flatten)]
    pub point: Point,
}

impl Tuning {
    /// Returns `base`, the text of a policy without tiers, with these tiers appended.
    pub fn policy_text(&self, base: &str) -> String {
        let mut text = base.trim_end().to_owned();
        text.push('\n');
        for tier in &self.tiers {
            text.push_str(&format!("\n[[tier]]\nname = \"{}\"\n", tier.name));
            if tier.point.share < 1.0 {
                text.push_str(&format!("share = {}\n", tier.point.share));
            }
        }
        text
    }
}

/// Finds the shares of tiers that bring editions of `subject` to their `targets`, the least first.
/// `highest` names the tier that opens everything. `policy`, which has no tiers of its own, says
/// what is encrypted.
///
/// It chooses shares on one half of the samples, drawn by the seed, and measures figures on the
/// other half. It uses the options' seed, data options, output and metric.
///
/// # Errors
/// As [`assess`](crate::assess()); and [`Error::Usage`] for targets that are not ascending, at or
/// above the original's value, or at or below the floor of a linear classifier on the inputs or of
/// the input passed through.
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
    let data = Some(data);
    Bench::with(subject, data, options, &[N_LABELS], progress, |bench| {
        tune_on(bench, policy, targets, highest)
    })
}

fn tune_on(
    bench: &Bench<'_>,
    policy: &Policy,
    targets: &[Target],
    highest: &str,
) -> Result<Tuning> {
    let mut calibration = shuffled(bench.n, &mut rng(bench.options.seed, "tune"));
    let evaluation = calibration.split_off(bench.n.div_ceil(2));
    let mut tuner = Tuner {
        bench,
        policy,
        calibration,
        evaluation,
        points: Vec::new(),
        n_units: 0,
    };
    let original = tuner.point(1.0, bench.subject.files())?;
    bench.step("floors")?;
    let floors = tuner.floors()?;
    check_values(bench, targets, original.calibration, &floors)?;

    tuner.try_shares(0.0, 1.0)?;
    for target in targets {
        let (low, high) = tuner.bracket(target.value);
        if high - low > NARROW {
            tuner.try_shares(low, high)?;
        }
    }
    let tier = |name: &str, share| Tier {
        name: name.to_owned(),
        share,
    };
    let nearest = |target: &Target| rounded(tuner.nearest(target.value));
    let lower = targets.iter().map(|of| tier(&of.name, nearest(of)));
    let tiers: Vec<Tier> = lower.chain([tier(highest, 1.0)]).collect();
    let mut whole = policy.clone();
    let too_close = |error: onnxseal_plan::Error| {
        Error::Usage(format!(
            "the targets are too close together for the steps that this model has: {error}; put them further apart, or give the policy a smaller `unit`"
        ))
    };
    whole.set_tiers(tiers.clone()).map_err(too_close)?;
    let copy = ProtectedCopy::new(bench.subject, &whole)?;
    let values = targets.iter().map(|target| Some(target.value));
    let mut tuned = Vec::new();
    for (tier, target) in tiers.into_iter().zip(values.chain([None])) {
        bench.step(&format!("tier {}", tier.name))?;
        tuned.push(TunedTier {
            point: tuner.point(tier.share, &copy.files(&tier.name)?)?,
            name: tier.name,
            target,
        });
    }
    let notes = tuner.notes(&tuned);
    tuner.points.dedup_by(|a, b| a.share == b.share);
    Ok(Tuning {
        model: bench.subject.name.clone(),
        engine: bench.engine_row(),
        data: bench.data_row(),
        seed: bench.options.seed,
        metric: bench.judge.row(),
        n_calibration: tuner.calibration.len(),
        n_evaluation: tuner.evaluation.len(),
        n_units: tuner.n_units,
        original: original.evaluation,
        floors,
        curve: tuner.points,
        tiers: tuned,
        notes,
    })
}

struct Tuner<'t> {
    bench: &'t Bench<'t>,
    policy: &'t Policy,
    calibration: Vec<usize>,
    evaluation: Vec<usize>,
    /// By share.
    points: Vec<Point>,
    n_units: u64,
}

impl Tuner<'_> {
    /// Measures a model on both halves. A model that ONNX Runtime does not run gets the value of
    /// nothing.
    fn point(&self, share: f64, files: &Files) -> Result<Point> {
        let judge = &self.bench.judge;
        let ran = attempt(self.bench.run(files, false, "an edition"))?;
        let on = |rows: &[usize]| match &ran {
            Ok(ran) => judge.measure(&ran.answers, rows),
            Err(_) => Ok(judge.rate(&vec![None; rows.len()], rows)),
        };
        Ok(Point {
            share,
            calibration: on(&self.calibration)?.value,
            evaluation: on(&self.evaluation)?,
        })
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
        policy.set_tiers(tiers.clone())?;
        let copy = ProtectedCopy::new(self.bench.subject, &policy)?;
        let tensors = copy.report.operators.iter().flat_map(|row| &row.tensors);
        self.n_units = tensors.map(|row| row.k).sum();
        for tier in &tiers[..N_SHARES as usize] {
            self.bench.step(&format!("{:.1} %", tier.share * 100.0))?;
            let point = self.point(tier.share, &copy.files(&tier.name)?)?;
            self.points.push(point);
        }
        self.points.sort_by(|a, b| a.share.total_cmp(&b.share));
        Ok(())
    }

    /// Returns the shares between which the curve first reaches `value`.
    fn bracket(&self, value: f64) -> (f64, f64) {
        let points = &self.points;
        let at = points.iter().position(|point| point.calibration >= value);
        let (below, above) = points.split_at(at.unwrap_or(points.len()));
        let share = |point: Option<&Point>, otherwise| point.map_or(otherwise, |of| of.share);
        (share(below.last(), 0.0), share(above.first(), 1.0))
    }

    /// Returns the share that comes nearest to `value`, the least among equals.
    fn nearest(&self, value: f64) -> f64 {
        let far = |point: &Point| (point.calibration - value).abs();
        let points = self.points.iter();
        let nearest = points.min_by(|a, b| far(a).total_cmp(&far(b)));
        nearest.map_or(0.0, |point| point.share)
    }

    /// Computes the floors: what the samples for calibration give without the model.
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
            let raw = Features::of(bench.raw());
            let known = &self.calibration[..N_LABELS.min(self.calibration.len())];
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

    /// Measures the input in place of the output, if it has the output's size and the output has no
    /// classes.
    fn passed_through(&self) -> Result<Option<Measure>> {
        let (bench, mut best) = (self.bench, None);
        let width = bench.judge.original.width;
        let has_its_size = |samples: &&Samples| samples.dims.iter().product::<usize>() == width;
        if !bench.judge.is_rate() {
            for samples in bench.samples.iter().filter(has_its_size) {
                let passed = samples.table(bench.n);
                keep(&mut best, bench.judge.measure(&passed, &self.evaluation)?);
            }
        }
        Ok(best)
    }

    fn notes(&self, tuned: &[TunedTier]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.calibration.len() < FEW_SAMPLES {
            notes.push(format!(
                "Only {} samples were left to choose shares; with {FEW_SAMPLES} or more, shares are reliable.",
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
            let is_rate = self.bench.judge.is_rate();
            let scale = if is_rate { 1.0 } else { target.abs() };
            let got = tier.point.calibration;
            if (got - target).abs() > FAR * scale {
                notes.push(format!(
                    "No share gives tier {:?} its target {target}; the nearest gives {got:.3}. Smaller units or a ranking may give a smoother curve.",
                    tier.name
                ));
            }
        }
        notes.push("An edition can be repaired as far as its weights and data allow: `assess` with the same policy shows how far.".to_owned());
        notes
    }
}

fn check_names(policy: &Policy, targets: &[Target], highest: &str) -> Result<()> {
    let refuse = |text: &str| Err(Error::Usage(text.to_owned()));
    if !policy.tiers().is_empty() {
        return refuse("the policy has tiers already: take them out to tune new ones");
    }
    if targets.is_empty() {
        return refuse("give a target to tune for");
    }
    let n = targets.len() as f64 + 1.0;
    let names = targets.iter().map(|target| target.name.as_str());
    let tiers = (1..).zip(names.chain([highest])).map(|(i, name)| Tier {
        name: name.to_owned(),
        share: f64::from(i) / n,
    });
    // With shares that always fit, this checks only the names.
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
        let refuse = |is: String| {
            let text = format!("target {} of tier {name:?} is not {is}", shown(*value));
            Err(Error::Usage(text))
        };
        if let Some(Target { name, .. }) = below.filter(|below| *value <= below.value) {
            return refuse(format!(
                "above that of tier {name:?}: name the least tier first"
            ));
        }
        below = Some(target);
        if value.is_nan() || *value >= original {
            return refuse(format!(
                "below the original, which gets {}: if you expected more, the data may be scaled or normalised in another way than in training (scale, mean, std, order of channels)",
                shown(original)
            ));
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
            return refuse(format!(
                "above {}, which {how}: such a weak edition is worthless",
                shown(floor.measure.value)
            ));
        }
    }
    Ok(())
}

/// Rounds a share as a policy writes it.
fn rounded(share: f64) -> f64 {
    (share * 1e4).round() / 1e4
}
