//! The result: what each attack gets from each candidate, beside what an attacker gets anyway.
//!
//! All types serialise. Shares and rates are from 0 to 1. A report needs nothing else: tables, JSON and pictures are
//! made of an [`Assessment`] alone.

use std::fmt;

use onnxseal_plan::Preset;
use serde::Serialize;

/// Parts of a [strip](OperatorRow::strip).
pub const STRIP_BINS: usize = 64;

/// What attackers get from a model, for one or more ways to protect it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Assessment {
    /// The model, as the caller calls it.
    pub model: String,
    /// Bytes of the model file and its external data.
    pub model_bytes: u64,
    /// ONNX Runtime, which ran the model.
    pub engine: EngineRow,
    /// The data.
    pub data: DataRow,
    /// From it all that is random follows.
    pub seed: u64,
    /// What is measured.
    pub metric: MetricRow,
    /// How far above its floor an attack may come and still count as held, in the metric's unit.
    pub margin: f64,
    /// Whether the attacker has a public model of the same architecture.
    pub public_base: PublicBase,
    /// The unprotected model.
    pub original: Measure,
    /// What an attacker gets without any weight that is encrypted.
    pub floors: Vec<Floor>,
    /// The ways to protect it, in the caller's order.
    pub candidates: Vec<Candidate>,
    /// What the figures do not rule out, and what was left out: sentences for people.
    pub notes: Vec<String>,
    /// Seconds that all of it took.
    pub seconds: f64,
}

/// The public model that the attacker has: most models that people ship were fine-tuned from one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum PublicBase {
    /// Nobody says whether there is one, and none was tried.
    NotTried,
    /// The caller says that there is none: the model was trained from nothing.
    None,
    /// Its weights were tried.
    Tried {
        /// What it is called.
        model: String,
        /// Weight tensors of the model that it has, too.
        n_matched: usize,
        /// Weight tensors of the model.
        n_tensors: usize,
    },
}

/// The ONNX Runtime that ran the model.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EngineRow {
    /// Its version: `1.32.0`.
    pub version: String,
    /// The library.
    pub library: String,
    /// Threads that one run takes.
    pub n_threads: usize,
}

/// The data, and who has which part of it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DataRow {
    /// What the caller calls it; `random inputs` where there is none.
    pub source: String,
    /// Samples that were read.
    pub n_samples: usize,
    /// Samples that the attacker has, of which the first are taken where fewer are asked for.
    pub n_attacker: usize,
    /// Samples that the attacker does not have.
    pub n_evaluation: usize,
    /// Whether samples have labels.
    pub is_labelled: bool,
    /// Whether the inputs are random numbers: then only agreement with the original is measured, and little is shown.
    pub is_random: bool,
    /// Classes that the output tells apart, where it does.
    pub n_classes: Option<usize>,
    /// Numbers of the attacker's labels that were asked for and that the data are too few for.
    pub dropped_sizes: Vec<usize>,
}

/// The metric.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MetricRow {
    /// Which it is.
    pub kind: MetricKind,
    /// Its name for people: `accuracy`, `agreement`, `PSNR`, or the caller's.
    pub name: String,
    /// Its unit: empty for rates, `dB` for PSNR.
    pub unit: String,
    /// Whether it is a share of samples, from 0 to 1, so that intervals are Wilson's.
    pub is_rate: bool,
}

/// What is measured. More is always better for the attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetricKind {
    /// Share of samples whose largest output is the label's.
    Accuracy,
    /// Share of samples whose largest output is the original's.
    Agreement,
    /// Peak signal-to-noise ratio against the original's output, in dB.
    Psnr,
    /// What the caller computes.
    Custom,
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Measure {
    /// The metric.
    pub value: f64,
    /// 95 % interval; absent where the metric gives none.
    pub interval: Option<Interval>,
    /// Samples that it was measured on.
    pub n_samples: usize,
    /// Samples with an output that is no number; they count as wrong.
    pub n_nan: usize,
    /// Share of samples that have the original's class, right or wrong; where accuracy is measured.
    pub agreement: Option<f64>,
    /// Share of samples whose label is among the five largest outputs, for six classes and more.
    pub top5: Option<f64>,
    /// Mean of `|output - original's| / |original's|` over samples (Euclidean norms); for outputs that are no classes.
    pub relative_error: Option<f64>,
}

impl Measure {
    /// A value on `n_samples`, all of whose outputs are numbers, and nothing beside it.
    pub(crate) fn of(value: f64, interval: Option<Interval>, n_samples: usize) -> Measure {
        Measure {
            value,
            interval,
            n_samples,
            n_nan: 0,
            agreement: None,
            top5: None,
            relative_error: None,
        }
    }
}

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What an attacker gets without any weight that is encrypted.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Floor {
    /// How.
    pub kind: FloorKind,
    /// Labels that the attacker has; absent where none are used.
    pub n_labels: Option<usize>,
    /// What it gives.
    pub measure: Measure,
}

/// How an attacker gets an answer without any weight that is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FloorKind {
    /// The same answer always: the most frequent class, or the mean output.
    Constant,
    /// A probe on the inputs themselves.
    RawProbe,
    /// The model with zeros or random numbers for all that can be encrypted.
    FullRandom,
    /// A probe on the features of that model.
    FullProbe,
    /// The edition of the next higher tier, less twice the margin: who comes within the margin of it has it.
    NextTier,
    /// The input in place of the output.
    PassThrough,
    /// The model with the public base's elements for all that can be encrypted.
    Base,
    /// A probe on the features of that model.
    BaseProbe,
}

/// One way to protect the model, and what attacks get from it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Candidate {
    /// The preset or policy, or `as protected`; of a tier's edition with the tier.
    pub name: String,
    /// The tier of which the attacker has the key; absent without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Bytes of them that are encrypted.
    pub encrypted_bytes: u64,
    /// `encrypted_bytes / weight_bytes`.
    pub share: f64,
    /// What it costs to open the model on this machine.
    pub opening: Option<Opening>,
    /// The attacks, in the order in which they were tried.
    pub attacks: Vec<AttackRow>,
    /// The worst of the attacks' verdicts; in place of [`Verdict::Holds`], [`Verdict::NotBroken`]
    /// where that was not shown.
    pub verdict: Verdict,
    /// The attack that decides the verdict: the one furthest above its floor; index into `attacks`.
    pub worst: Option<usize>,
    /// The fill that gets most, probes aside; index into `attacks`.
    pub best_fill: Option<usize>,
    /// The operators that own weights, in file order.
    pub operators: Vec<OperatorRow>,
    /// What was left out for this candidate: sentences for people.
    pub notes: Vec<String>,
}

/// What it costs to open a protected model.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Opening {
    /// Seconds to verify and decrypt it into memory: the best of some runs.
    pub seconds: f64,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// One attack on one candidate.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AttackRow {
    /// What the attacker does.
    pub attack: Attack,
    /// Its name for people: `zero fill`, `probe with 100 labels`.
    pub name: String,
    /// For probes, the value in the graph that they look at: of several layers the one that serves best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// What it gets: of several seeds, the most. Absent where it was not tried; `note` says why.
    pub measure: Option<Measure>,
    /// What each seed gets, where there are several.
    pub seeds: Vec<f64>,
    /// The floor that it is held against: the highest that applies.
    pub floor: f64,
    /// Which floor that is.
    pub floor_kind: FloorKind,
    /// Whether the candidate holds.
    pub verdict: Verdict,
    /// A sentence for people: why it was not tried, or what it rests on.
    pub note: Option<String>,
}

/// What the attacker does, knowing each encrypted position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Attack {
    /// Runs the protected file.
    AsItIs,
    /// Replaces what is encrypted.
    Fill {
        /// By what.
        fill: Fill,
        /// Whether statistics of normalisations are then estimated anew, from data without labels.
        reestimated: bool,
    },
    /// Trains a linear classifier on the features of a filled model: the best of some fills, layers
    /// and heads by cross-validation on the labels.
    Probe {
        /// The labels that it has.
        n_labels: usize,
        /// The fill.
        fill: Fill,
        /// Whether statistics of normalisations were then estimated anew.
        reestimated: bool,
        /// The classifier.
        head: Head,
    },
}

impl Attack {
    /// Whether the attacker has the public base.
    pub fn has_base(self) -> bool {
        matches!(self, Attack::Fill { fill, .. } | Attack::Probe { fill, .. } if fill == Fill::PublicBase)
    }
}

/// A linear classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Head {
    /// Ridge regression.
    Ridge,
    /// Multinomial logistic regression.
    Logistic,
}

/// By what encrypted elements are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fill {
    /// 0.
    Zero,
    /// The mean of what is visible of the same channel: the first axis of the matrix view.
    ChannelMean,
    /// The mean of what is visible along the other axis.
    RowMean,
    /// Random numbers with mean and deviation of what is visible of the channel.
    ChannelGaussian,
    /// A line between the next visible elements.
    Neighbours,
    /// The matrix of low rank that fits what is visible.
    LowRank,
    /// Random numbers as for a model that is not trained, whatever is visible.
    Random,
    /// The elements of a public model of the same architecture; where that has none, as
    /// [`Fill::ChannelMean`].
    PublicBase,
}

/// Whether a candidate holds against an attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
#[non_exhaustive]
pub enum Verdict {
    /// The interval's upper end is at most the floor and the margin.
    Holds,
    /// Nothing that was tried breaks it, but not enough was tried to say that it holds: some
    /// weights are in clear, and nobody tried a public base, or a probe on real samples. Only
    /// candidates have this verdict, not attacks.
    NotBroken,
    /// The samples are too few to say.
    Undecided {
        /// About how many would do; absent where no number would, or nothing was measured.
        needed_samples: Option<u64>,
    },
    /// The value is above the floor and the margin.
    Leaks,
}

impl Verdict {
    /// 0 for the best, 3 for the worst.
    pub fn rank(self) -> u8 {
        match self {
            Verdict::Holds => 0,
            Verdict::NotBroken => 1,
            Verdict::Undecided { .. } => 2,
            Verdict::Leaks => 3,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Holds => "holds",
            Verdict::NotBroken => "not broken by what was tried",
            Verdict::Undecided { .. } => "undecided",
            Verdict::Leaks => "leaks",
        })
    }
}

/// One operator that owns weights.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OperatorRow {
    /// Operator type, with its domain unless `ai.onnx`.
    pub op_type: String,
    /// Name of the node, often empty.
    pub node: String,
    /// Bytes of its weights.
    pub bytes: u64,
    /// Bytes of them that are encrypted.
    pub encrypted_bytes: u64,
    /// `encrypted_bytes / bytes`.
    pub share: f64,
    /// Where they are: for each of [`STRIP_BINS`] equal parts of the operator's weights, in the order of its tensors, the
    /// encrypted share.
    pub strip: Vec<f32>,
    /// Its weight tensors.
    pub tensors: Vec<TensorRow>,
}

/// One weight tensor.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TensorRow {
    /// Name in the graph.
    pub name: String,
    /// Protobuf path in `ModelProto`.
    pub path: String,
    /// Element type, as `TensorProto.DataType` calls it.
    pub data_type: String,
    /// Shape.
    pub dims: Vec<u64>,
    /// Bytes of its elements.
    pub bytes: u64,
    /// Bytes of them that are encrypted.
    pub encrypted_bytes: u64,
}

impl Assessment {
    /// The worst of all candidates' verdicts; `Holds` where there are none.
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.candidates.iter().map(|candidate| candidate.verdict);
        verdicts
            .max_by_key(|verdict| verdict.rank())
            .unwrap_or(Verdict::Holds)
    }

    /// The candidates that were asked for and do not hold. Where the caller named none and all presets were put side by
    /// side, the default preset alone counts.
    pub fn failures(&self, names_none: bool) -> impl Iterator<Item = &Candidate> {
        let default = Preset::default().name();
        let is_default = move |candidate: &&Candidate| candidate.name == default;
        // Of a protected model without named policies there is nothing but the model as it is.
        let only_default = names_none && self.candidates.iter().any(|row| is_default(&row));
        let judged = self.candidates.iter();
        let judged = judged.filter(move |row| !only_default || is_default(row));
        judged.filter(|candidate| candidate.verdict != Verdict::Holds)
    }
}

impl Candidate {
    /// The attack that decides the verdict.
    pub fn worst_attack(&self) -> Option<&AttackRow> {
        self.attacks.get(self.worst?)
    }

    /// The fill that gets most, probes aside.
    pub fn best_fill_attack(&self) -> Option<&AttackRow> {
        self.attacks.get(self.best_fill?)
    }

    /// The probe that comes furthest above its floor.
    pub fn best_probe(&self) -> Option<&AttackRow> {
        let probes = self.attacks.iter().filter_map(|row| match row.attack {
            Attack::Probe { .. } => Some((row, row.measure.as_ref()?.value - row.floor)),
            _ => None,
        });
        let best = probes.max_by(|(_, a), (_, b)| a.total_cmp(b));
        best.map(|(row, _)| row)
    }

    /// What the protected file, or a tier's edition, gives as it is; nothing where ONNX Runtime does not run it.
    pub(crate) fn as_it_is(&self) -> f64 {
        let mut attacks = self.attacks.iter();
        let row = attacks.find(|row| row.attack == Attack::AsItIs);
        row.and_then(|row| row.measure.as_ref())
            .map_or(0.0, |measure| measure.value)
    }

    /// The probe with `n_labels` labels, without the public base.
    pub fn probe(&self, n_labels: usize) -> Option<&AttackRow> {
        self.probe_by(n_labels, false)
    }

    /// The probe with `n_labels` labels and the public base.
    pub fn base_probe(&self, n_labels: usize) -> Option<&AttackRow> {
        self.probe_by(n_labels, true)
    }

    fn probe_by(&self, wanted: usize, has_base: bool) -> Option<&AttackRow> {
        let is_it = |row: &&AttackRow| {
            matches!(row.attack, Attack::Probe { n_labels, .. } if n_labels == wanted)
                && row.attack.has_base() == has_base
        };
        self.attacks.iter().find(is_it)
    }
}
