//! The result: what each attack gets from each candidate, compared with what an attacker gets
//! anyway.
//!
//! All types serialise. Shares and rates are from 0 to 1. Tables, JSON and pages come from an
//! [`Assessment`] alone.

use onnxseal_plan::Preset;
use serde::Serialize;

pub use crate::verdict::{Doubt, Verdict};

/// The number of parts in a [strip](OperatorRow::strip).
pub const STRIP_BINS: usize = 64;

/// What attackers get from a model, for one or more ways to protect it.
#[derive(Clone, Debug, Serialize)]
pub struct Assessment {
    /// The model, as the caller calls it.
    pub model: String,
    /// Bytes of the model file and its external data.
    pub model_bytes: u64,
    pub engine: EngineRow,
    pub data: DataRow,
    pub seed: u64,
    pub metric: MetricRow,
    /// How far above its floor an attack may come before the candidate leaks, in the metric's unit.
    pub margin: f64,
    /// Whether the attacker has a public model of the same architecture.
    pub public_base: PublicBase,
    /// The value of the unprotected model.
    pub original: Measure,
    /// What an attacker gets without any weight of the model.
    pub floors: Vec<Floor>,
    /// The ways to protect it, in the caller's order.
    pub candidates: Vec<Candidate>,
    /// Notes on what the figures do not rule out, and on what was left out: sentences for people.
    pub notes: Vec<String>,
    pub seconds: f64,
}

/// The attacker's public model: most shipped models were fine-tuned from one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PublicBase {
    /// The caller does not say whether there is one, and none was tried.
    NotTried,
    /// The caller says that the model was trained from scratch.
    None,
    Tried {
        model: String,
        /// Weight tensors of the model with a match in it.
        n_matched: usize,
        /// Weight tensors of the model.
        n_tensors: usize,
    },
}

/// The ONNX Runtime that ran the model.
#[derive(Clone, Debug, Serialize)]
pub struct EngineRow {
    pub version: String,
    pub library: String,
    pub n_threads: usize,
}

/// The data and its split.
#[derive(Clone, Debug, Serialize)]
pub struct DataRow {
    /// The caller's name for it; `random inputs` without data.
    pub source: String,
    pub n_samples: usize,
    /// Samples that the attacker has. An attack with fewer uses the first of them.
    pub n_attacker: usize,
    /// Samples that the attacker lacks.
    pub n_evaluation: usize,
    pub is_labelled: bool,
    /// Whether the inputs are random numbers. Then only agreement with the original is measured,
    /// which proves little.
    pub is_random: bool,
    pub n_classes: Option<usize>,
    /// The requested numbers of labels for which there are too few data.
    pub dropped_sizes: Vec<usize>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MetricRow {
    pub kind: MetricKind,
    /// Its name for people: `accuracy`, `agreement`, `PSNR`, or the caller's name.
    pub name: String,
    /// Its unit: empty for rates, `dB` for PSNR.
    pub unit: String,
    /// Whether it is a share of samples, from 0 to 1, so that intervals are Wilson's.
    pub is_rate: bool,
}

/// The kind of metric. More is always better for the attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Share of samples whose largest output is at the label.
    Accuracy,
    /// Share of samples whose largest output is the original's.
    Agreement,
    /// Peak signal-to-noise ratio against the original's output, in dB.
    Psnr,
    Custom,
}

/// One measured value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measure {
    pub value: f64,
    /// 95 % interval; absent if the metric has none.
    pub interval: Option<Interval>,
    pub n_samples: usize,
    /// Samples whose output is not a number; they count as wrong.
    pub n_nan: usize,
    /// Share of samples with the original's class, right or wrong; only with accuracy.
    pub agreement: Option<f64>,
    /// Share of samples whose label is among the five largest outputs, for six classes and more.
    pub top5: Option<f64>,
    /// Mean of `|output - original's| / |original's|` over samples (Euclidean norms); for outputs
    /// without classes.
    pub relative_error: Option<f64>,
}

impl Measure {
    /// Makes a measure of `n_samples` samples whose outputs are all numbers, without further
    /// figures.
    pub(crate) fn of(value: f64, interval: Option<Interval>, n_samples: usize) -> Measure {
        Measure {
            value,
            interval,
            n_samples,
            ..Measure::default()
        }
    }
}

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// What an attacker gets without any weight of the model.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    pub kind: FloorKind,
    /// The attacker's labels; absent if none are used.
    pub n_labels: Option<usize>,
    pub measure: Measure,
}

/// How an attacker gets an answer without any weight of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FloorKind {
    /// A constant answer: the most frequent class, or the mean output.
    Constant,
    /// A probe on the inputs themselves.
    RawProbe,
    /// The model with zeros or random numbers for every element of every tensor.
    FullRandom,
    /// A probe on the features of that model.
    FullProbe,
    /// The edition of the next higher tier, less twice the margin: an attack within the margin of
    /// it counts as having it.
    NextTier,
    /// The input in place of the output.
    PassThrough,
    /// The model with the public base's elements for every element of every tensor.
    Base,
    /// A probe on the features of that model.
    BaseProbe,
}

/// One way to protect the model, and what attacks get from it.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// The preset or policy, or `as protected`; for a tier's edition with the tier.
    pub name: String,
    /// The tier of which the attacker has the key; absent without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    pub weight_bytes: u64,
    pub encrypted_bytes: u64,
    pub share: f64,
    /// The attacks, in the order tried.
    pub attacks: Vec<AttackRow>,
    /// The worst of the attacks' verdicts, or [`Verdict::CannotTell`] in place of
    /// [`Verdict::Holds`] if data and attacks cannot show that.
    pub verdict: Verdict,
    /// The attack that decides the verdict, the one furthest above its floor, as an index into
    /// `attacks`.
    pub worst: Option<usize>,
    /// The best attack that is a fill, as an index into `attacks`.
    pub best_fill: Option<usize>,
    /// The operators that own weights, in file order.
    pub operators: Vec<OperatorRow>,
    /// Notes on what was left out for this candidate: sentences for people.
    pub notes: Vec<String>,
}

/// One attack on one candidate.
#[derive(Clone, Debug, Serialize)]
pub struct AttackRow {
    pub attack: Attack,
    /// Its name for people: `zero fill`, `probe with 100 labels`.
    pub name: String,
    /// For probes, the value in the graph that they use: the best of several layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Its result, the best of several seeds. Absent if it was not tried: `note` says why.
    pub measure: Option<Measure>,
    /// The result of each seed, if there are several.
    pub seeds: Vec<f64>,
    /// The floor for this attack: the highest that applies.
    pub floor: f64,
    pub floor_kind: FloorKind,
    pub verdict: Verdict,
    /// A sentence for people: why it was not tried, or what it relies on.
    pub note: Option<String>,
}

/// What the attacker does, with knowledge of each encrypted position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Attack {
    /// Runs the protected file.
    AsItIs,
    /// Replaces the encrypted elements.
    Fill {
        fill: Fill,
        /// Whether statistics of normalisations are then estimated again, from data without labels.
        reestimated: bool,
    },
    /// Trains a linear classifier on the features of a filled model: the best of some fills, layers
    /// and heads by cross-validation on the labels.
    Probe {
        n_labels: usize,
        fill: Fill,
        reestimated: bool,
        head: Head,
    },
}

impl Attack {
    /// Returns whether the attacker has the public base.
    pub fn has_base(self) -> bool {
        matches!(self, Attack::Fill { fill, .. } | Attack::Probe { fill, .. } if fill == Fill::PublicBase)
    }
}

/// A linear classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    Ridge,
    /// Multinomial logistic regression.
    Logistic,
}

/// The values that replace encrypted elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    Zero,
    /// The mean of the visible elements of the channel, which is the first axis of the matrix view.
    ChannelMean,
    /// The mean of the visible elements along the other axis.
    RowMean,
    /// Random numbers with the mean and deviation of the channel's visible elements.
    ChannelGaussian,
    /// Random numbers as before training, whatever is visible.
    Random,
    /// The elements of a public model of the same architecture; as [`Fill::ChannelMean`] where that
    /// model lacks them.
    PublicBase,
}

/// One operator that owns weights.
#[derive(Clone, Debug, Serialize)]
pub struct OperatorRow {
    /// Operator type, with its domain unless `ai.onnx`.
    pub op_type: String,
    /// Name of the node, often empty.
    pub node: String,
    pub bytes: u64,
    pub encrypted_bytes: u64,
    pub share: f64,
    /// The encrypted share of each of [`STRIP_BINS`] equal parts of the operator's weights, in the
    /// order of its tensors.
    pub strip: Vec<f32>,
    pub tensors: Vec<TensorRow>,
}

/// One weight tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorRow {
    pub name: String,
    /// Protobuf path in `ModelProto`.
    pub path: String,
    /// Element type, as in `TensorProto.DataType`.
    pub data_type: String,
    pub dims: Vec<u64>,
    pub bytes: u64,
    pub encrypted_bytes: u64,
}

impl Assessment {
    /// Returns the requested candidates that do not hold. If the caller named none and all presets
    /// were compared, only the default preset counts.
    pub fn failures(&self, names_none: bool) -> impl Iterator<Item = &Candidate> {
        let default = Preset::default().name();
        let is_default = move |candidate: &&Candidate| candidate.name == default;
        // For a protected model without named policies, the only candidate is the model itself.
        let only_default = names_none && self.candidates.iter().any(|row| is_default(&row));
        let judged = self.candidates.iter();
        let judged = judged.filter(move |row| !only_default || is_default(row));
        judged.filter(|candidate| candidate.verdict.rank() > 0)
    }
}

impl Candidate {
    pub fn worst_attack(&self) -> Option<&AttackRow> {
        self.attacks.get(self.worst?)
    }

    pub fn best_fill_attack(&self) -> Option<&AttackRow> {
        self.attacks.get(self.best_fill?)
    }

    /// Returns the probe that comes furthest above its floor.
    pub fn best_probe(&self) -> Option<&AttackRow> {
        let probes = self.attacks.iter().filter_map(|row| match row.attack {
            Attack::Probe { .. } => Some((row, row.measure.as_ref()?.value - row.floor)),
            _ => None,
        });
        let best = probes.max_by(|(_, a), (_, b)| a.total_cmp(b));
        best.map(|(row, _)| row)
    }

    /// Returns the value of the protected file, or a tier's edition, as it is; the value of nothing
    /// if ONNX Runtime does not run it.
    pub(crate) fn as_it_is(&self) -> f64 {
        let mut attacks = self.attacks.iter();
        let row = attacks.find(|row| row.attack == Attack::AsItIs);
        let measure = row.and_then(|row| row.measure.as_ref());
        measure.map_or(0.0, |measure| measure.value)
    }

    /// Returns the probe with `wanted` labels, with the public base or without.
    pub fn probe(&self, wanted: usize, has_base: bool) -> Option<&AttackRow> {
        let is_it = |row: &&AttackRow| {
            matches!(row.attack, Attack::Probe { n_labels, .. } if n_labels == wanted)
                && row.attack.has_base() == has_base
        };
        self.attacks.iter().find(is_it)
    }
}
