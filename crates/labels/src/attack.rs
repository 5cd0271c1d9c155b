//! What attackers get who run a protected model on samples of their own, without a key.

use nalgebra::DMatrix;
use onnxseal_data::{DataOptions, DataSet};
use onnxseal_rewrite::Files;
use onnxseal_store::Location;

use crate::draw::{numbered, uniform};
use crate::error::{Error, Result};
use crate::head::{input_of, table_of};
use crate::layer_run::{LayerRun, Ran};

const MAX_UNLABELLED: usize = 300;

/// Starts of clustering, of which the closest groups count, and the most rounds of each.
const STARTS: u64 = 10;
const ROUNDS: usize = 50;

/// The result of one attack, and its floor: both from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The attack, named by the attacker's material.
    pub attack: String,
    pub got: f64,
    /// What the attacker gets of the features before the layer, which the model shows in any case.
    pub floor: f64,
    /// The meaning of both numbers, for people.
    pub what: &'static str,
}

/// What the layer of a protected model reads and gives, and the number of classes behind.
#[derive(Debug)]
pub struct Answered {
    pub ran: Ran,
    pub classes: usize,
    /// Rows that answer to traces: the table names them.
    traces: Vec<u32>,
}

pub fn run(model: &Location, data: &DataSet, options: &DataOptions) -> Result<Answered> {
    let files = Files::open(model)?;
    let table = files.with(table_of)?;
    let input = files.with(|source| input_of(source, table.answers()))?;
    let name = model.to_name().display().to_string();
    let mut layer = LayerRun::new((&files, &[]), &name, &input, table.answers())?;
    let samples = layer.samples(data, options)?;
    let ran = layer.run(&samples, data.n)?;
    if ran.answers.width != table.n_rows() as usize {
        let text = "the layer answers for several positions of a sample: attacks are for one";
        return Err(Error::Usage(text.into()));
    }
    Ok(Answered {
        ran,
        classes: table.classes() as usize,
        traces: table.traces().to_vec(),
    })
}

impl Answered {
    /// Classifies by groups of answers to samples without labels. The attacker has at most the
    /// first half of the samples, and classifies the others. Each group is called by the label that
    /// most of its samples have. `None` with fewer than three samples a class.
    pub fn groups(&self, labels: &[i64], seed: u64) -> Option<Found> {
        let k = self.classes;
        let n = (self.ran.answers.n_rows() / 2).min(MAX_UNLABELLED);
        let right = |values: &DMatrix<f64>| accuracy(&groups(values, n, k, seed), labels, n, k);
        let shares: Vec<usize> = (0..self.ran.answers.width)
            .filter(|row| self.traces.binary_search(&(*row as u32)).is_err())
            .collect();
        let answers = matrix(&self.ran.answers).select_columns(&shares);
        let features = matrix(&self.ran.features);
        (n >= 3 * k).then(|| Found {
            attack: format!("groups of answers to {n} samples without labels"),
            got: right(&standardised(answers, n)),
            floor: right(&features).max(right(&standardised(features, n))),
            what: "accuracy; beside it, by groups of features",
        })
    }
}

fn matrix(table: &onnxseal_engine::Table) -> DMatrix<f64> {
    let values = table.values.iter().copied().map(f64::from);
    DMatrix::from_row_iterator(table.n_rows(), table.width, values)
}

/// Gives each column mean 0 and deviation 1 over the first `n` samples, which the attacker has.
fn standardised(mut values: DMatrix<f64>, n: usize) -> DMatrix<f64> {
    for mut column in values.column_iter_mut() {
        let seen = column.rows(0, n);
        let (mean, deviation) = (seen.mean(), seen.variance().sqrt());
        column.add_scalar_mut(-mean);
        if deviation > 0.0 {
            column.scale_mut(1.0 / deviation);
        }
    }
    values
}

/// Finds `k` groups of the first `n` samples by k-means, and returns the group of each sample.
fn groups(values: &DMatrix<f64>, n: usize, k: usize, seed: u64) -> Vec<usize> {
    let seen = values.rows(0, n).into_owned();
    let starts = (0..STARTS).map(|start| centres(&seen, k, seed.wrapping_add(start)));
    let best = starts.min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or_else(Vec::new, |(centres, _)| nearest(values, &centres).0)
}

/// Returns the centres of one start, and the sum of squared distances from them.
fn centres(samples: &DMatrix<f64>, k: usize, seed: u64) -> (DMatrix<f64>, f64) {
    let mut rng = numbered(seed);
    // k-means++: the next centre is a sample, by its squared distance from the nearest one.
    let mut centres = DMatrix::zeros(0, samples.ncols());
    let mut least = vec![1.0; samples.nrows()];
    for place in 0..k.min(samples.nrows()) {
        let mut left = uniform(&mut rng) * least.iter().sum::<f64>();
        let drawn = least.iter().position(|distance| {
            left -= distance;
            left < 0.0
        });
        centres = centres.insert_row(place, 0.0);
        centres.set_row(place, &samples.row(drawn.unwrap_or_default()));
        least = nearest(samples, &centres).1;
    }
    let mut groups = Vec::new();
    for _ in 0..ROUNDS {
        let found = nearest(samples, &centres);
        if found.0 == groups {
            break;
        }
        groups = found.0;
        least = found.1;
        for group in 0..centres.nrows() {
            let of_group = groups.iter().enumerate().filter(|(_, of)| **of == group);
            let rows: Vec<usize> = of_group.map(|(row, _)| row).collect();
            if !rows.is_empty() {
                centres.set_row(group, &samples.select_rows(&rows).row_mean());
            }
        }
    }
    (centres, least.iter().sum())
}

/// Returns the nearest centre of each sample, and its squared distance.
fn nearest(samples: &DMatrix<f64>, centres: &DMatrix<f64>) -> (Vec<usize>, Vec<f64>) {
    let of_sample = samples.row_iter().map(|sample| {
        let distances = centres
            .row_iter()
            .map(|centre| (sample - centre).norm_squared());
        let nearest = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.unwrap_or((0, f64::INFINITY))
    });
    of_sample.unzip()
}

/// Returns the share of samples past the first `n` that are in the group of most samples of their
/// label among the first `n`.
fn accuracy(groups: &[usize], labels: &[i64], n: usize, k: usize) -> f64 {
    let mut counts = std::collections::HashMap::new();
    for pair in groups.iter().zip(labels).take(n) {
        *counts.entry(pair).or_insert(0u32) += 1;
    }
    let name = |group: usize| {
        let of = counts.iter().filter(|((found, _), _)| **found == group);
        of.max_by_key(|((_, label), count)| (**count, **label))
            .map(|((_, label), _)| **label)
    };
    let names: Vec<Option<i64>> = (0..k).map(name).collect();
    let others = || groups.iter().zip(labels).skip(n);
    let right = others().filter(|(group, label)| names.get(**group) == Some(&Some(**label)));
    right.count() as f64 / others().count().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_samples_classify() {
        // 120 samples of three classes.
        let noise = |i: usize, j: usize| ((i * 31 + j * 17) % 13) as f64 / 13.0;
        let labels: Vec<i64> = (0..120).map(|i| (i * i % 7 % 3) as i64).collect();
        let value = |i: usize, j: usize| 4.0 * f64::from(u8::from(labels[i] as usize == j % 3));
        let features = DMatrix::from_fn(120, 5, |i, j| value(i, j) + noise(i, j));
        let found = groups(&standardised(features, 60), 60, 3, 1);
        assert!((accuracy(&found, &labels, 60, 3) - 1.0).abs() < 1e-9);
        // Labels of the attacker's half name the groups: others do not.
        let shuffled: Vec<i64> = (0..120)
            .map(|i| if i < 60 { 7 } else { labels[i] })
            .collect();
        assert!(accuracy(&found, &shuffled, 60, 3).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let none = DMatrix::zeros(0, 3);
        assert!(groups(&none, 0, 2, 0).is_empty());
        assert!(accuracy(&[], &[], 0, 2).abs() < 1e-9);
    }
}
