//! Scores weights by how much a model would miss them.

mod activation;
mod probabilistic;
mod scores;

use onnxseal_data::DataSet;
use onnxseal_engine::Engine;
use onnxseal_plan::{Policy, Preset, Ranking};

use crate::error::Result;
use crate::hidden::Hidden;
use crate::options::{Options, Progress};
use crate::subject::Subject;

/// The method of scoring.
#[derive(Clone, Copy)]
pub enum Method {
    /// `w^2 E[x^2] / E[y^2]`, where x is the weight's factor and y its operator's output, from one
    /// run that outputs both.
    Activation,
    /// Random masks over units, scored by how much each spoils the answers.
    Probabilistic {
        /// The share of bytes that a mask takes.
        share: f64,
        n_masks: usize,
    },
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
    let (name, scores) = match method {
        Method::Activation => {
            let engine = Engine::load()?;
            let scores = engine.unless(&|| progress.is_cancelled(), || {
                activation::rank(
                    &engine, subject, &hidden, unit_bytes, data, options, progress,
                )
            });
            ("activation", scores?)
        }
        Method::Probabilistic { share, n_masks } => {
            let masks = (share, n_masks);
            let scores =
                probabilistic::rank(subject, &hidden, unit_bytes, masks, data, options, progress);
            ("probabilistic", scores?)
        }
    };
    let mut ranking = Ranking::new(&subject.located()?, name, unit_bytes)?;
    for (path, units) in scores {
        // A plan divides the score of a unit by its bytes.
        let score = |unit: f64| unit.clamp(0.0, f32::MAX.into()) as f32;
        ranking.insert(path, units.into_iter().map(score).collect());
    }
    if progress.is_cancelled() {
        ranking.set_partial();
    }
    Ok(ranking)
}
