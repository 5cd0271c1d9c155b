//! The rows that come in the place of classes: secret shares of their logits.
//!
//! With `A = [W | b]`, mean `mu` and standard deviation `sigma` of each of its columns: `p_j` is an integer from 32 to 96, over 64, of
//! either sign, and `q = sum p_j^2`. The rows of class y are
//!
//! ```text
//! G_j = mu (sum p) / q + sigma eps_j / sqrt(q)              eps_j normal, one for each column
//! G_j = G_j + (p_j / q) (A_y - sum_i p_i G_i)               so that sum_j p_j G_j = A_y
//! ```
//!
//! They have the same mean and variance for all classes, so that they show no class. Weights times a multiple of `A` would not do: a row
//! for each class plus the same differences for all of them is a lattice that shows the classes with no data.

use std::convert::Infallible;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use onnxseal_store::parallel;
use rand_distr::{Distribution as _, StandardNormal};

/// The least and the greatest of 64 times the weight of a share, whatever its sign.
pub const WEIGHTS: std::ops::RangeInclusive<i8> = 32..=96;

/// What a weight of a share is counted in.
pub const UNIT: f64 = 1.0 / 64.0;

/// Shares of all classes: N for the first one, N for the second one, and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// Rows, `[K N, columns]`.
    pub rows: Vec<f32>,
    /// 64 times the weight of each.
    pub weights: Vec<i8>,
}

/// Mean and standard deviation of each column of `[K, columns]`.
#[derive(Debug)]
pub struct Columns {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Columns {
    /// Those of `matrix`.
    pub fn new(matrix: &[f64], columns: usize) -> Columns {
        let n = (matrix.len() / columns.max(1)).max(1) as f64;
        let mut mean = vec![0.0; columns];
        let mut deviation = vec![0.0; columns];
        for row in matrix.chunks_exact(columns.max(1)) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += value / n;
            }
        }
        for row in matrix.chunks_exact(columns.max(1)) {
            for ((deviation, mean), value) in deviation.iter_mut().zip(&mean).zip(row) {
                *deviation += (value - mean).powi(2) / n;
            }
        }
        for deviation in &mut deviation {
            *deviation = deviation.sqrt();
        }
        Columns { mean, deviation }
    }

    /// The shares of one class: `p` are their weights, `eps` normal numbers, `[N, columns]`, which become the rows.
    pub fn split(&self, class: &[f64], p: &[f64], eps: &mut [f64]) {
        let columns = class.len().max(1);
        let q: f64 = p.iter().map(|p| p * p).sum();
        let (sum, root) = (p.iter().sum::<f64>() / q, 1.0 / q.sqrt());
        let mut missing = class.to_vec();
        for (row, p) in eps.chunks_exact_mut(columns).zip(p) {
            let of = self.mean.iter().zip(&self.deviation).zip(&mut missing);
            for (value, ((mean, deviation), missing)) in row.iter_mut().zip(of) {
                *value = mean * sum + deviation * *value * root;
                *missing -= p * *value;
            }
        }
        for (row, p) in eps.chunks_exact_mut(columns).zip(p) {
            for (value, missing) in row.iter_mut().zip(&missing) {
                *value += p / q * missing;
            }
        }
    }
}

/// Splits each row of `matrix`, `[K, columns]`, in `codewords` shares; on all cores. All that is random comes of `seed`.
pub fn split(matrix: &[f64], columns: usize, codewords: usize, seed: &[u8; 32]) -> Shares {
    let classes = matrix.len() / columns.max(1);
    let of_columns = Columns::new(matrix, columns);
    let mut shares = Shares {
        rows: vec![0.0; classes * codewords * columns],
        weights: vec![0; classes * codewords],
    };
    let rows = shares.rows.chunks_exact_mut((codewords * columns).max(1));
    let weights = shares.weights.chunks_exact_mut(codewords.max(1));
    let jobs = matrix
        .chunks_exact(columns.max(1))
        .zip(rows)
        .zip(weights)
        .enumerate();
    let work = |values: &mut Vec<f64>, (class, ((of_class, rows), weights)): Job<'_>| {
        let mut rng = ChaCha20Rng::from_seed(*seed);
        rng.set_stream(class as u64);
        weights
            .iter_mut()
            .for_each(|weight| *weight = draw_weight(&mut rng));
        let p: Vec<f64> = weights
            .iter()
            .map(|weight| f64::from(*weight) * UNIT)
            .collect();
        for value in values.iter_mut() {
            *value = StandardNormal.sample(&mut rng);
        }
        of_columns.split(of_class, &p, values);
        for (row, value) in rows.iter_mut().zip(values) {
            *row = *value as f32;
        }
        Ok::<(), Infallible>(())
    };
    let values = || vec![0.0; codewords * columns];
    let Ok(()) = parallel::for_each(false, classes as u64, jobs, values, work);
    shares
}

/// A class, its row, and the places of its shares and of their weights.
type Job<'a> = (usize, ((&'a [f64], &'a mut [f32]), &'a mut [i8]));

/// An integer from 32 to 96, of either sign: all 130 are equally likely.
pub(crate) fn draw_weight(rng: &mut ChaCha20Rng) -> i8 {
    loop {
        // 7 bits of size, one of sign.
        let byte = rng.next_u32() as u8;
        let size = WEIGHTS.start().saturating_add((byte >> 1).cast_signed());
        if WEIGHTS.contains(&size) {
            return if byte & 1 == 0 { size } else { -size };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn shares_of_a_class_sum_to_it_and_have_the_moments_of_all() {
        let (classes, columns, codewords) = (30, 200, 8);
        let matrix: Vec<f64> = (0..classes * columns)
            .map(|i| {
                f64::from((i * 7919 % 1000) as u32) / 500.0 - 1.0 + (i % columns) as f64 / 50.0
            })
            .collect();
        let shares = split(&matrix, columns, codewords, &[7; 32]);
        let mut squares = 0.0;
        for (y, class) in matrix.chunks(columns).enumerate() {
            for (column, wanted) in class.iter().enumerate() {
                let sum: f64 = (0..codewords)
                    .map(|j| {
                        let row = y * codewords + j;
                        f64::from(shares.weights[row])
                            * UNIT
                            * f64::from(shares.rows[row * columns + column])
                    })
                    .sum();
                assert!((sum - wanted).abs() < 1e-5);
            }
            for j in 0..codewords {
                let weight = shares.weights[y * codewords + j];
                assert!(WEIGHTS.contains(&weight.abs()));
            }
        }
        let of_columns = Columns::new(&matrix, columns);
        for (j, value) in shares.rows.iter().enumerate() {
            let column = j % columns;
            squares += (f64::from(*value) / of_columns.deviation[column]).powi(2)
                / shares.rows.len() as f64;
        }
        assert!(squares.is_finite());
        // Another seed gives other shares, the same gives the same.
        assert_eq!(split(&matrix, columns, codewords, &[7; 32]), shares);
        assert_ne!(
            split(&matrix, columns, codewords, &[8; 32]).weights,
            shares.weights
        );
    }

    #[test]
    fn weights_take_all_their_values() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let drawn: std::collections::BTreeSet<i8> =
            (0..10_000).map(|_| draw_weight(&mut rng)).collect();
        assert_eq!(drawn.len(), 130);
        assert_eq!((*drawn.first().unwrap(), *drawn.last().unwrap()), (-96, 96));
    }
}
