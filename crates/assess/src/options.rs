//! Options of an assessment, and progress.

use onnxseal_data::DataOptions;
use onnxseal_plan::{Policy, Preset};

use crate::metric::Metric;
use crate::subject::Subject;

/// A way to protect the model, with a name.
#[derive(Clone, Debug)]
pub struct NamedPolicy {
    pub name: String,
    /// Which weights to encrypt, and how much of each.
    pub policy: Policy,
}

impl From<Preset> for NamedPolicy {
    fn from(preset: Preset) -> NamedPolicy {
        NamedPolicy {
            name: preset.name().to_owned(),
            policy: Policy::preset(preset),
        }
    }
}

/// The attacker's public model, from which the model was fine-tuned.
#[derive(Clone, Copy, Debug, Default)]
pub enum PublicModel<'a> {
    /// Unknown: then no candidate with weights in clear counts as holding.
    #[default]
    Unknown,
    /// The model was trained from scratch.
    None,
    Known(&'a Subject),
}

/// How a model is assessed.
#[non_exhaustive]
pub struct Options<'a> {
    /// The policies to compare. If empty: all presets or, for a protected model, its present
    /// protection.
    pub candidates: Vec<NamedPolicy>,
    /// The numbers of labels to give attackers.
    pub attacker_samples: Vec<usize>,
    pub seed: u64,
    /// The output with the model's answer. If absent: the first with classes, or the first of all.
    pub output: Option<String>,
    pub metric: Option<&'a dyn Metric>,
    /// Whether the attacker has a public model of the same architecture.
    pub base: PublicModel<'a>,
    /// How data are fitted to the inputs.
    pub data: DataOptions,
    /// Whether the caller knows that the samples are scaled as the model takes them. Otherwise
    /// nothing holds on whole numbers that a model takes as floats, such as unscaled pixels.
    pub is_scaled: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            candidates: Vec::new(),
            attacker_samples: vec![100, 1000],
            seed: 0,
            output: None,
            metric: None,
            base: PublicModel::Unknown,
            data: DataOptions::default(),
            is_scaled: false,
        }
    }
}

/// Observes a long call, and can cancel it.
pub trait Progress: Sync {
    /// The call begins, with about `n_steps` steps.
    fn begin(&self, _n_steps: u64) {}

    /// A step begins, described by `what`.
    fn step(&self, _what: &str) {}

    /// The call was cancelled and returns a partial result, from `n_done` of `n_wanted` units that
    /// `what` names, such as samples.
    fn cut_short(&self, _n_done: usize, _n_wanted: usize, _what: &str) {}

    /// Returns whether to cancel; the call asks before each step. It then fails with
    /// [`Error::Cancelled`](crate::Error::Cancelled), unless its partial result is useful: see
    /// [`Progress::cut_short`].
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Ignores progress and never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
