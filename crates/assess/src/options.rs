//! What is asked for, and who hears how far it is.

use onnxseal_data::DataOptions;
use onnxseal_plan::{Policy, Preset};

use crate::metric::Metric;
use crate::subject::Subject;

/// A way to protect the model, with a name.
#[derive(Clone, Debug)]
pub struct NamedPolicy {
    /// What reports call it.
    pub name: String,
    /// Which weights, how much of each.
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

/// A public model that the attacker has, from which the model was fine-tuned.
#[derive(Clone, Copy, Debug, Default)]
pub enum PublicModel<'a> {
    /// Nobody says: a candidate that leaves weights in clear is then never said to hold.
    #[default]
    Unknown,
    /// The model was trained from nothing.
    None,
    /// This one.
    Known(&'a Subject),
}

/// How a model is assessed.
#[non_exhaustive]
pub struct Options<'a> {
    /// The policies to put side by side; empty: all presets, or, of a protected model, what is encrypted in it.
    pub candidates: Vec<NamedPolicy>,
    /// The numbers of labels that attackers have.
    pub attacker_samples: Vec<usize>,
    /// From it all that is random follows.
    pub seed: u64,
    /// How far above its floor an attack may come; absent: 0.05 for rates and a caller's metric, 1 dB for PSNR.
    pub margin: Option<f64>,
    /// The output that is the model's answer; absent: the first with classes, or the first of all.
    pub output: Option<String>,
    /// The caller's metric.
    pub metric: Option<&'a dyn Metric>,
    /// Whether the attacker has a public model of the same architecture.
    pub base: PublicModel<'a>,
    /// How data are fitted to the inputs.
    pub data: DataOptions,
    /// Random samples, where there are no data.
    pub n_random: usize,
    /// Whether to measure what it costs to open the protected model: it is then protected into a temporary folder.
    pub measures_opening: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            candidates: Vec::new(),
            attacker_samples: vec![100, 1000],
            seed: 0,
            margin: None,
            output: None,
            metric: None,
            base: PublicModel::Unknown,
            data: DataOptions::default(),
            n_random: 256,
            measures_opening: true,
        }
    }
}

/// Told how far a long call is.
pub trait Progress: Sync {
    /// The call has about so many steps.
    fn begin(&self, n_steps: u64) {
        let _ = n_steps;
    }

    /// A step begins.
    fn step(&self, what: &str) {
        let _ = what;
    }

    /// The call was cancelled and ends with what it has: from `n_done` of `n_wanted` samples, or whatever `what` is.
    fn cut_short(&self, n_done: usize, n_wanted: usize, what: &str) {
        let _ = (n_done, n_wanted, what);
    }

    /// Whether the call shall end: asked before each step. It then fails with [`Error::Cancelled`](crate::Error::Cancelled),
    /// unless what it has is of use: see [`Progress::cut_short`].
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}

/// Ends the call when it is set, and tells nobody.
impl Progress for std::sync::atomic::AtomicBool {
    fn is_cancelled(&self) -> bool {
        self.load(std::sync::atomic::Ordering::Relaxed)
    }
}
