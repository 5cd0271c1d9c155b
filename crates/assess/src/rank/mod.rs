//! Scores weights by how much a model would miss them.
//!
//! A score is a part's worth per byte, so scores of all tensors compare with each other.

mod activation;
mod probabilistic;
mod scores;

use std::collections::BTreeMap;

use onnxseal_data::DataSet;
use onnxseal_engine::{Engine, Net};
use onnxseal_plan::{Policy, Preset, Ranking};

use crate::bench::samples;
use crate::error::Result;
use crate::hidden::Hidden;
use crate::options::{Options, Progress};
use crate::subject::Subject;

/// The method of scoring.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Method {
    /// `w^2 E[x^2] / E[y^2]`, where x is the weight's factor and y its operator's output, from one
    /// run that outputs both.
    Activation,
    /// Random masks over units, scored by how much each spoils the answers.
    Probabilistic {
        /// The share of bytes that a mask takes.
        share: f64,
        /// The number of masks.
        n_masks: usize,
    },
}

impl Method {
    /// Returns the method's name in a ranking.
    pub fn name(self) -> &'static str {
        match self {
            Method::Activation => "activation",
            Method::Probabilistic { .. } => "probabilistic",
        }
    }
}

/// Ranks the weights of `subject` in units of `unit_bytes` bytes; models of more than 1 GiB get
/// larger ones.
///
/// `data` feed the model; without data, inputs are random. The call uses the
/// options' seed, data options and output. If `progress` is cancelled, the ranking has the scores
/// so far and is marked as partial.
///
/// # Errors
/// As [`assess`](crate::assess()); and unless `unit_bytes` is a power of two from 64 to 1024.
pub fn rank(
    subject: &Subject,
    method: Method,
    unit_bytes: u64,
    data: Option<&DataSet>,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Ranking> {
    onnxseal_plan::check_unit_bytes(unit_bytes)?;
    let hidden = Hidden::of_policy(subject, &Policy::preset(Preset::Full))?;
    let unit_bytes = onnxseal_plan::unit_bytes(unit_bytes, hidden.weight_bytes);
    let scores = match method {
        Method::Activation => {
            let engine = Engine::load()?;
            engine.unless(&|| progress.is_cancelled(), || {
                let net = Net::new(&engine, subject.files(), &[], "the original")?;
                let samples = samples(&net, data, options)?;
                drop(net);
                activation::rank(&engine, subject, &hidden, unit_bytes, &samples, progress)
            })?
        }
        Method::Probabilistic { share, n_masks } => {
            let masks = (share, n_masks);
            probabilistic::rank(subject, &hidden, unit_bytes, masks, data, options, progress)?
        }
    };
    let mut ranking = Ranking::new(&subject.located()?, method.name(), unit_bytes)?;
    let bytes_of = hidden.tensors.iter().map(|t| (t.path.as_str(), t.bytes()));
    let bytes_of: BTreeMap<&str, u64> = bytes_of.collect();
    for (path, scores) in scores {
        let bytes = bytes_of.get(path.as_str()).copied().unwrap_or_default();
        let left = |i: u64| bytes.saturating_sub(i * unit_bytes).min(unit_bytes) as f64;
        // A ranking has scores of whole units: a plan divides them by bytes.
        let of_unit = |(i, score): (u64, f64)| (score * left(i)).clamp(0.0, f32::MAX.into()) as f32;
        ranking.insert(path, (0..).zip(scores).map(of_unit).collect());
    }
    if progress.is_cancelled() {
        ranking.set_partial();
    }
    Ok(ranking)
}
