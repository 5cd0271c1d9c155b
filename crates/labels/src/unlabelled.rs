//! Finds groups of samples in inputs without labels, and with them groups of rows.
//!
//! k-means finds groups of samples in features or in answers. A share answers most to its own
//! class, so a row's mean answers to the groups identify its group. All groups of rows have equal
//! size.

use nalgebra::{DMatrix, DVector, RowDVector};

use crate::draw::{numbered, uniform};

/// The number of starts of clustering; the closest groups count.
const STARTS: u64 = 10;

/// The most rounds of clustering.
const ROUNDS: usize = 50;

/// Standardises `[samples, numbers]`: each column gets mean 0 and deviation 1 over the first `n`
/// samples, which an attacker saw.
pub(crate) fn standardised(values: &DMatrix<f64>, n: usize) -> DMatrix<f64> {
    let mut values = values.clone();
    let n = n.min(values.nrows());
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

/// Returns the centres, `[k, numbers]`, of `k` groups of the first `n` samples of
/// `[samples, numbers]`.
pub(crate) fn centres(samples: &DMatrix<f64>, n: usize, k: usize, seed: u64) -> DMatrix<f64> {
    let seen = samples.rows(0, n.min(samples.nrows())).into_owned();
    let starts = (0..STARTS).map(|start| once(&seen, k, seed.wrapping_add(start)));
    let best = starts.min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or_else(|| DMatrix::zeros(0, samples.ncols()), |best| best.0)
}

/// Returns the centres of one start, and the mean squared distance from them.
fn once(samples: &DMatrix<f64>, k: usize, seed: u64) -> (DMatrix<f64>, f64) {
    let mut rng = numbered(seed);
    // k-means++: the next centre is a sample, by its squared distance from the nearest one.
    let mut chosen = DMatrix::zeros(0, samples.ncols());
    let mut least = DVector::from_element(samples.nrows(), 1.0);
    for place in 0..k.min(samples.nrows()) {
        let mut left = uniform(&mut rng) * least.sum();
        let drawn = least.iter().position(|distance| {
            left -= distance;
            left < 0.0
        });
        let centre = samples.row(drawn.unwrap_or_default());
        chosen = chosen.insert_row(place, 0.0);
        chosen.row_mut(place).copy_from(&centre);
        for (least, sample) in least.iter_mut().zip(samples.row_iter()) {
            let distance = (sample - centre).norm_squared();
            *least = if place == 0 {
                distance
            } else {
                least.min(distance)
            };
        }
    }
    // With fewer samples than groups, the others stay empty.
    let mut centres = chosen;
    let mut groups = Vec::new();
    for _ in 0..ROUNDS {
        let found = nearest(samples, &centres);
        if found == groups {
            break;
        }
        groups = found;
        for (group, mean) in means(samples, &groups, k).into_iter().enumerate() {
            if let Some(mean) = mean {
                centres.set_row(group, &mean);
            }
        }
    }
    let distances = groups.iter().zip(samples.row_iter());
    let spread = distances.map(|(group, sample)| (sample - centres.row(*group)).norm_squared());
    let spread = spread.sum::<f64>();
    (centres, spread)
}

/// Returns the nearest centre of each sample.
pub(crate) fn nearest(samples: &DMatrix<f64>, centres: &DMatrix<f64>) -> Vec<usize> {
    let products = samples * centres.transpose();
    let halves: Vec<f64> = centres.row_iter().map(|c| c.norm_squared() / 2.0).collect();
    let best = |i: usize| {
        let distance = |k: usize| halves[k] - products[(i, k)];
        let all = 0..halves.len();
        all.min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
    };
    (0..samples.nrows())
        .map(|i| best(i).unwrap_or_default())
        .collect()
}

/// Returns the mean of each group, or `None` for a group without samples.
fn means(samples: &DMatrix<f64>, groups: &[usize], k: usize) -> Vec<Option<RowDVector<f64>>> {
    let mut sums = DMatrix::zeros(k, samples.ncols());
    let mut counts = vec![0u32; k];
    for (sample, group) in samples.row_iter().zip(groups) {
        let sum = sums.row(*group) + sample;
        sums.set_row(*group, &sum);
        counts[*group] += 1;
    }
    let of = |(count, sum): (&u32, nalgebra::RowDVector<f64>)| {
        (*count > 0).then(|| sum / f64::from(*count))
    };
    let sums = sums.row_iter().map(|row| row.into_owned());
    counts.iter().zip(sums).map(of).collect()
}

/// A group of samples for each row, and the sign of the row's answers to it.
#[derive(Debug)]
pub(crate) struct Matched {
    /// The group of each row.
    pub(crate) groups: Vec<usize>,
    signs: Vec<f64>,
}

impl Matched {
    /// Matches rows with `k` groups of samples. `answers` is `[samples, rows]`, standardised;
    /// `groups` has the groups of the first samples. The closest pair comes first, and a group is
    /// full once it has its part of the rows.
    pub(crate) fn new(answers: &DMatrix<f64>, groups: &[usize], k: usize) -> Matched {
        let seen = answers.rows(0, groups.len()).into_owned();
        let n_rows = answers.ncols();
        let mut by_group = DMatrix::zeros(k, n_rows);
        for (group, mean) in means(&seen, groups, k).into_iter().enumerate() {
            if let Some(mean) = mean {
                by_group.set_row(group, &mean);
            }
        }
        for mut column in by_group.column_iter_mut() {
            let norm = column.norm();
            column.scale_mut(1.0 / (norm + 1e-12));
        }
        let mut pairs: Vec<(usize, usize)> = (0..n_rows)
            .flat_map(|row| (0..k).map(move |group| (row, group)))
            .collect();
        let size = |(row, group): &(usize, usize)| by_group[(*group, *row)].abs();
        pairs.sort_by(|a, b| size(b).total_cmp(&size(a)));
        let mut room = vec![n_rows.div_ceil(k.max(1)); k];
        let mut matched = Matched {
            groups: vec![usize::MAX; n_rows],
            signs: vec![0.0; n_rows],
        };
        for (row, group) in pairs {
            if matched.groups[row] == usize::MAX && room[group] > 0 {
                room[group] -= 1;
                matched.groups[row] = group;
                matched.signs[row] = by_group[(group, row)].signum();
            }
        }
        matched
    }

    /// Returns the group of each sample, by the sum of the answers of each group's rows.
    pub(crate) fn decode(&self, answers: &DMatrix<f64>, k: usize) -> Vec<usize> {
        let mut sums = DMatrix::zeros(answers.ncols(), k);
        for (row, (group, sign)) in self.groups.iter().zip(&self.signs).enumerate() {
            sums[(row, *group)] = *sign;
        }
        let logits = answers * sums;
        let largest = |row: nalgebra::RowDVector<f64>| row.transpose().argmax().0;
        logits
            .row_iter()
            .map(|row| largest(row.into_owned()))
            .collect()
    }
}

/// Returns the share of samples after the first `n` that are in the group of most samples of their
/// label among the first `n`.
pub(crate) fn accuracy(groups: &[usize], labels: &[i64], n: usize, k: usize) -> f64 {
    let seen = groups.iter().zip(labels).take(n);
    let mut counts = std::collections::HashMap::new();
    for pair in seen {
        *counts.entry(pair).or_insert(0u32) += 1;
    }
    let name = |group: usize| {
        let of = counts.iter().filter(|((found, _), _)| **found == group);
        of.max_by_key(|((_, label), count)| (**count, **label))
            .map(|((_, label), _)| **label)
    };
    let names: Vec<Option<i64>> = (0..k).map(name).collect();
    let others = groups.iter().zip(labels).skip(n);
    let n_others = others.len();
    let right = others.filter(|(group, label)| names[**group] == Some(**label));
    right.count() as f64 / n_others.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes 120 samples of three classes, and six rows that each answer to a class, of either
    /// sign.
    fn classes() -> (DMatrix<f64>, DMatrix<f64>, Vec<i64>) {
        let noise = |i: usize, j: usize| ((i * 31 + j * 17) % 13) as f64 / 13.0;
        let labels: Vec<i64> = (0..120).map(|i| (i * i % 7 % 3) as i64).collect();
        let class = |i: usize| labels[i] as usize;
        let features = DMatrix::from_fn(120, 5, |i, j| {
            f64::from(u8::from(class(i) == j % 3)) * 4.0 + noise(i, j)
        });
        let sign = |row: usize| if row < 3 { 1.0 } else { -1.0 };
        let answers = DMatrix::from_fn(120, 6, |i, row| {
            sign(row) * f64::from(u8::from(class(i) == row % 3)) + noise(i, row) / 4.0
        });
        (features, answers, labels)
    }

    #[test]
    fn groups_of_samples_name_groups_of_rows() {
        let (features, answers, labels) = classes();
        let (n, k) = (60, 3);
        let features = standardised(&features, n);
        let answers = standardised(&answers, n);
        let groups = nearest(&features, &centres(&features, n, k, 1));
        assert!((accuracy(&groups, &labels, n, k) - 1.0).abs() < 1e-9);
        let matched = Matched::new(&answers, &groups[..n], k);
        for row in 0..3 {
            assert_eq!(matched.groups[row], matched.groups[row + 3]);
            assert!(matched.signs[row] > 0.0 && matched.signs[row + 3] < 0.0);
        }
        let decoded = matched.decode(&answers, k);
        assert!((accuracy(&decoded, &labels, n, k) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let none = DMatrix::zeros(0, 3);
        assert_eq!(
            nearest(&none, &centres(&none, 5, 2, 0)),
            Vec::<usize>::new()
        );
        assert!(accuracy(&[], &[], 0, 2).abs() < 1e-9);
    }
}
