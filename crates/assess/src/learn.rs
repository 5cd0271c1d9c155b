//! What an attacker learns from labelled samples: ridge regression on features that are visible.

use nalgebra::DMatrix;

use crate::engine::Table;
use crate::error::Result;
use crate::random::{rng, shuffled};
use crate::ridge::{Choice, Ridge, largest};

/// Draws of training samples; the mean counts.
const DRAWS: u64 = 5;

/// The share of other samples that ridge regression on `n` labelled ones gets right, with `features` a row a sample: the mean over draws
/// of these.
///
/// # Errors
/// [`crate::Error::Usage`] where there are too few samples.
pub fn accuracy(
    features: &Table,
    labels: &[i64],
    n_classes: usize,
    n: usize,
    seed: u64,
) -> Result<f64> {
    let rows: Vec<Vec<f32>> = (0..features.n_rows())
        .map(|row| features.row(row).to_vec())
        .collect();
    let mut sum = 0.0;
    for draw in 0..DRAWS {
        let order = shuffled(rows.len(), &mut rng(seed.wrapping_add(draw), "learn"));
        let (train, test) = order.split_at(n.min(order.len()));
        let class = |row: usize| labels.get(row).copied().unwrap_or(-1);
        let targets = DMatrix::from_fn(train.len(), n_classes, |i, k| {
            f64::from(class(train[i]) == k as i64)
        });
        let of = |rows_of: &[usize]| -> Vec<Vec<f32>> {
            rows_of.iter().map(|row| rows[*row].clone()).collect()
        };
        let ridge = Ridge::fit(&of(train), &targets, Choice::Class)?;
        let right = test.iter().filter(|row| {
            let scores = rows.get(**row).map(|row| ridge.predict(row));
            let best = scores.and_then(|scores| largest(scores.into_iter()));
            best.map(|best| best as i64) == Some(class(**row))
        });
        sum += right.count() as f64 / test.len().max(1) as f64;
    }
    Ok(sum / DRAWS as f64)
}
