//! Traces: rows that answer to single secret inputs, and the statistics of identifying the key that
//! answered.
//!
//! A trace row is linear in the features of the layer: `r(f) = kappa (g (f - mu) - theta)`. On its
//! own input it is as large as three ranges of logits, and on other inputs below zero. The key
//! decides to which class it adds (see `docs/LABELS.md`).

use nalgebra::{Cholesky, DMatrix, DVector, DVectorView};

use crate::error::{Error, Result};

/// The least number of calibration samples, besides [`SAMPLES_FOR_EACH`] for each feature.
pub const MIN_SAMPLES: usize = 1000;

/// The least number of calibration samples for each feature.
pub const SAMPLES_FOR_EACH: usize = 4;

/// Shares of the mean variance to try adding to that of each feature; the best one is taken.
const RIDGES: [f64; 4] = [1e-3, 1e-2, 1e-1, 1.0];

/// How near a calibration sample may come to a trace, on a scale with the trace's own input at 1.
const MAX_TOP: f64 = 0.8;

/// A trace's answer to its own input, in ranges of logits.
const LOUDNESS: f64 = 3.0;

/// The largest probability of accusing an innocent user.
pub const MAX_INNOCENT: f64 = 1e-6;

/// Features of inputs: `[n, D]`, a row for each input.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    pub values: &'a [f64],
    pub columns: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The candidate to which it answers.
    pub candidate: usize,
    pub weights: Vec<f64>,
    pub bias: f64,
}

/// Traces, and how often they fire.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    pub all: Vec<Trace>,
    /// The share of held-out calibration samples on which any trace fires. The measured traces were
    /// made without these samples: covariances, thresholds and choice. The traces in `all` are
    /// chosen, and get thresholds, by all samples, so they fire no more often.
    pub firing: f64,
}

/// The direction of one candidate: `g`, with `g (x - mu) = 1`.
pub(crate) struct Direction {
    candidate: usize,
    pub(crate) weights: DVector<f64>,
    /// The largest `g (f - mu)` of the samples from which thresholds come.
    top: f64,
    /// The largest `g (f - mu)` of all samples.
    pub(crate) top_of_all: f64,
}

/// Returns the threshold from which a row fires: halfway between its own input, at 1, and the
/// nearest sample.
fn threshold_of(top: f64) -> f64 {
    (1.0 + top) / 2.0
}

impl Features<'_> {
    fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    fn matrix(&self) -> DMatrix<f64> {
        DMatrix::from_row_slice(self.rows(), self.columns, self.values)
    }
}

/// Chooses `n_traces` of `candidates` that are far from all samples of `calibration`, and makes
/// their rows.
///
/// `range` is the largest difference of two logits of one sample. Every third sample is held out;
/// covariances come from the others.
pub fn make(
    calibration: Features<'_>,
    candidates: Features<'_>,
    range: f64,
    n_traces: usize,
) -> Result<Traces> {
    let (n, d) = (calibration.rows(), calibration.columns);
    let wanted = MIN_SAMPLES.max(SAMPLES_FOR_EACH * d);
    if n < wanted {
        return Err(Error::Usage(format!(
            "traces need at least {wanted} calibration samples for {d} features; there are {n}"
        )));
    }
    if candidates.columns != d
        || !calibration
            .values
            .iter()
            .chain(candidates.values)
            .all(|value| value.is_finite())
    {
        return Err(Error::Usage(
            "features of calibration samples and candidates are finite numbers of one shape".into(),
        ));
    }
    let samples = Samples::new(calibration);
    let of_candidates = samples.centred(&candidates.matrix());
    let all = RIDGES.map(|ridge| samples.directions(ridge, &of_candidates));
    // The measured traces are chosen without the held-out samples, the final ones with all samples.
    let measured = best(&all, &of_candidates, n_traces, |one| one.top);
    let made = best(&all, &of_candidates, n_traces, |one| one.top_of_all);
    let chosen = made
        .ok_or_else(|| Error::Usage("features of calibration samples are all the same".into()))?;
    if chosen.len() < n_traces {
        return Err(Error::Usage(format!(
            "only {} of {n_traces} traces are unlike all calibration samples: give more samples, or ask for fewer traces",
            chosen.len()
        )));
    }
    let all = chosen.into_iter().map(|one| row(one, &samples.mean, range));
    Ok(Traces {
        firing: firing(&measured.unwrap_or_default(), &samples.held),
        all: all.collect(),
    })
}

/// Returns the traces of the ridge with most of them, among equal ones those farthest from samples.
/// `top` returns how near samples come.
fn best<'a>(
    all: &'a [Option<Vec<Direction>>],
    candidates: &DMatrix<f64>,
    n_traces: usize,
    top: fn(&Direction) -> f64,
) -> Option<Vec<&'a Direction>> {
    let mut best: Option<(f64, Vec<&Direction>)> = None;
    for directions in all.iter().flatten() {
        let chosen = chosen(directions, candidates, n_traces, top);
        let mean_top = chosen.iter().map(|one| top(one)).sum::<f64>() / chosen.len().max(1) as f64;
        let is_better = best
            .as_ref()
            .is_none_or(|(top, others)| (chosen.len(), -mean_top) > (others.len(), -*top));
        if is_better {
            best = Some((mean_top, chosen));
        }
    }
    best.map(|(_, chosen)| chosen)
}

/// Calibration samples, minus the mean of those from which covariances come.
pub(crate) struct Samples {
    pub(crate) mean: DVector<f64>,
    fitted: DMatrix<f64>,
    /// Every third sample.
    held: DMatrix<f64>,
    covariance: DMatrix<f64>,
}

impl Samples {
    pub(crate) fn new(calibration: Features<'_>) -> Samples {
        let (fitted, held): (Vec<usize>, Vec<usize>) =
            (0..calibration.rows()).partition(|i| i % 3 != 2);
        let all = calibration.matrix();
        let fitted = all.select_rows(&fitted);
        let mut samples = Samples {
            mean: fitted.row_mean().transpose(),
            fitted,
            held: all.select_rows(&held),
            covariance: DMatrix::zeros(0, 0),
        };
        samples.fitted = samples.centred(&samples.fitted);
        samples.held = samples.centred(&samples.held);
        samples.covariance = samples.fitted.tr_mul(&samples.fitted) / samples.fitted.nrows() as f64;
        samples
    }

    pub(crate) fn centred(&self, features: &DMatrix<f64>) -> DMatrix<f64> {
        let mut centred = features.clone();
        for mut row in centred.row_iter_mut() {
            row -= self.mean.transpose();
        }
        centred
    }

    /// Returns the directions of centred candidates, with `ridge` times the mean variance added to
    /// that of each feature, or `None` if the samples have no variance.
    pub(crate) fn directions(
        &self,
        ridge: f64,
        candidates: &DMatrix<f64>,
    ) -> Option<Vec<Direction>> {
        let mut matrix = self.covariance.clone();
        let added = ridge * matrix.trace() / matrix.nrows().max(1) as f64 + f64::MIN_POSITIVE;
        for i in 0..matrix.nrows() {
            matrix[(i, i)] += added;
        }
        let mut solved = Cholesky::new(matrix)?.solve(&candidates.transpose());
        for (mut column, x) in solved.column_iter_mut().zip(candidates.row_iter()) {
            let length = x.transpose().dot(&column);
            column /= length;
        }
        let largest = |samples: &DMatrix<f64>| -> Vec<f64> {
            let answers = samples * &solved;
            answers.column_iter().map(|column| column.max()).collect()
        };
        let tops = largest(&self.fitted).into_iter().zip(largest(&self.held));
        let all = solved.column_iter().zip(tops).enumerate();
        let direction =
            |(candidate, (column, (fit, held))): (usize, (DVectorView<'_, f64>, _))| Direction {
                candidate,
                weights: column.into_owned(),
                top: fit,
                top_of_all: f64::max(fit, held),
            };
        Some(all.map(direction).collect())
    }
}

/// Chooses the candidates farthest from the samples, none of which fires another's row.
fn chosen<'a>(
    all: &'a [Direction],
    candidates: &DMatrix<f64>,
    n_traces: usize,
    top: fn(&Direction) -> f64,
) -> Vec<&'a Direction> {
    // The top is 1 for a candidate that is a sample itself, and NaN for one without direction.
    let mut all: Vec<&Direction> = all.iter().filter(|one| top(one) <= MAX_TOP).collect();
    all.sort_by(|a, b| top(a).total_cmp(&top(b)));
    let fires = |one: &Direction, other: &Direction| {
        candidates
            .row(other.candidate)
            .transpose()
            .dot(&one.weights)
            > threshold_of(top(one))
    };
    let mut chosen: Vec<&Direction> = Vec::new();
    for one in all {
        if chosen.len() == n_traces {
            break;
        }
        if !chosen
            .iter()
            .any(|other| fires(other, one) || fires(one, other))
        {
            chosen.push(one);
        }
    }
    chosen
}

/// Returns the share of held-out samples on which any row fires, with thresholds only from the
/// other samples.
fn firing(chosen: &[&Direction], held: &DMatrix<f64>) -> f64 {
    let fires = |row: usize| {
        let sample = held.row(row).transpose();
        chosen
            .iter()
            .any(|one| sample.dot(&one.weights) > threshold_of(one.top))
    };
    let n = held.nrows();
    (0..n).filter(|row| fires(*row)).count() as f64 / n.max(1) as f64
}

pub(crate) fn row(direction: &Direction, mean: &DVector<f64>, range: f64) -> Trace {
    let threshold = threshold_of(direction.top_of_all);
    let loudness = LOUDNESS * range / (1.0 - threshold);
    Trace {
        candidate: direction.candidate,
        weights: direction
            .weights
            .iter()
            .map(|weight| loudness * weight)
            .collect(),
        bias: -loudness * (direction.weights.dot(mean) + threshold),
    }
}

/// Returns the least number of matches for an accusation: the smallest m with
/// `users * P[Bin(traces, 1 / classes) >= m]` at most [`MAX_INNOCENT`], or `None` if not even all
/// matches are enough.
pub fn threshold(users: usize, traces: usize, classes: usize) -> Option<usize> {
    (0..=traces).find(|matches| innocent(users, traces, classes, *matches) <= MAX_INNOCENT)
}

/// Returns an upper bound of the probability that any of `users` has that many matches by chance:
/// `users * P[Bin(traces, 1 / classes) >= matches]`.
pub fn innocent(users: usize, traces: usize, classes: usize, matches: usize) -> f64 {
    let p = 1.0 / classes.max(1) as f64;
    let mut tail = 0.0;
    // The logarithm of a binomial coefficient, from one term to the next.
    let mut coefficient = 0.0f64;
    for k in 0..=traces {
        if k >= matches {
            let log = coefficient + k as f64 * p.ln() + (traces - k) as f64 * (-p).ln_1p();
            // With one class all match: 0 times the logarithm of 0.
            tail += if log.is_nan() { 1.0 } else { log.exp() };
        }
        coefficient += ((traces - k) as f64 / (k + 1) as f64).ln();
    }
    (users as f64 * tail).min(1.0)
}
