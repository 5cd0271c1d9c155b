//! The rows that come in the place of classes: secret shares of their logits.
//!
//! With `A = [W | b]`, and N shares of each class:
//!
//! ```text
//! p_yj = +-U[1/2, 3/2]                                    the weight of share j of class y
//! G_yj = (mean_i + deviation_i normal) / sqrt(q_y)        of column i of A;  q_y = sum_j p_yj^2
//! G_yj = G_yj + p_yj / q_y (A_y - sum_j p_yj G_yj)        so that sum_j p_yj G_yj = A_y
//! ```
//!
//! No share answers as its class does, but rows hide no more than that: see `docs/LABELS.md`.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng as _;
use onnxseal_store::parallel;
use rand_distr::{Distribution as _, StandardNormal};

use crate::draw::{stream, uniform};
use crate::error::Result;
use crate::group::UNIT;
use crate::table::RowKind;

/// A row of the new layer: what it is, and its weights with the bias behind them.
pub(crate) type NewRow = (RowKind, Vec<f32>);

/// Splits each row of `matrix`, `[K, columns]`, in `codewords` shares, class by class. The same
/// `seed` gives the same shares.
pub(crate) fn split(
    matrix: &[f64],
    columns: usize,
    codewords: usize,
    seed: &[u8; 32],
) -> Result<Vec<NewRow>> {
    let classes: Vec<&[f64]> = matrix.chunks_exact(columns.max(1)).collect();
    let typical: Vec<(f64, f64)> = (0..columns)
        .map(|i| mean_and_deviation(&classes, i))
        .collect();
    let of_class = parallel::map(classes.len(), |y| -> Result<_> {
        let mut rng = stream(seed, y as u64);
        let weights = draw_weights(codewords, &mut rng);
        let root = sum_of_squares(&weights).sqrt();
        let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
        let drawn = (0..codewords).flat_map(|_| &typical);
        let drawn: Vec<f64> = drawn
            .map(|(mean, deviation)| (mean + deviation * normal()) / root)
            .collect();
        let rows = mix(
            classes.get(y).copied().unwrap_or_default(),
            &weights,
            &drawn,
        );
        let kind = |weight| RowKind::Share {
            class: y as u32,
            weight,
        };
        Ok(weights.into_iter().map(kind).zip(rows).collect::<Vec<_>>())
    })?;
    Ok(of_class.into_iter().flatten().collect())
}

/// Those of a column over all classes.
fn mean_and_deviation(classes: &[&[f64]], column: usize) -> (f64, f64) {
    let n = classes.len().max(1) as f64;
    let values = || classes.iter().filter_map(|class| class.get(column));
    let mean = values().sum::<f64>() / n;
    let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// Makes the shares of one class of what was drawn for them, `[N, columns]`.
pub(crate) fn mix(class: &[f64], weights: &[i32], drawn: &[f64]) -> Vec<Vec<f32>> {
    let q = sum_of_squares(weights);
    let rows = || weights.iter().zip(drawn.chunks_exact(class.len().max(1)));
    let mut missing = class.to_vec();
    for (weight, row) in rows() {
        for (missing, value) in missing.iter_mut().zip(row) {
            *missing -= f64::from(*weight) * UNIT * value;
        }
    }
    let share = |(weight, row): (&i32, &[f64])| {
        let part = f64::from(*weight) * UNIT / q;
        let values = row.iter().zip(&missing);
        values
            .map(|(value, missing)| (value + part * missing) as f32)
            .collect()
    };
    rows().map(share).collect()
}

fn sum_of_squares(weights: &[i32]) -> f64 {
    let squares = weights
        .iter()
        .map(|weight| (f64::from(*weight) * UNIT).powi(2));
    squares.sum()
}

/// Draws weights for the shares of one class.
pub(crate) fn draw_weights(codewords: usize, rng: &mut ChaCha20Rng) -> Vec<i32> {
    let mut draw = || {
        let sign = if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 };
        (sign * (0.5 + uniform(rng)) / UNIT).round() as i32
    };
    (0..codewords).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use chacha20::rand_core::SeedableRng as _;

    use super::*;
    use crate::group::is_weight;

    const N: usize = 8;

    fn normal(n: usize, seed: u8) -> Vec<f64> {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        (0..n).map(|_| StandardNormal.sample(&mut rng)).collect()
    }

    /// What is read of shares with their weights.
    fn read(shares: &[NewRow], columns: usize) -> Vec<f64> {
        let mut classes = vec![0.0; shares.len() / N * columns];
        for (kind, row) in shares {
            let RowKind::Share { class, weight } = kind else {
                panic!("a trace")
            };
            assert!(is_weight(*weight));
            let class = classes.chunks_mut(columns).nth(*class as usize).unwrap();
            for (sum, value) in class.iter_mut().zip(row) {
                *sum += f64::from(*weight) * UNIT * f64::from(*value);
            }
        }
        classes
    }

    #[track_caller]
    fn sums_up(values: &[f64], columns: usize) {
        let shares = split(values, columns, N, &[7; 32]).unwrap();
        assert_eq!(shares.len(), values.len() / columns * N);
        // Floats round by the size of the largest class in their column.
        for (i, (read, wanted)) in read(&shares, columns).iter().zip(values).enumerate() {
            let column = values.iter().skip(i % columns).step_by(columns);
            let largest = column.fold(0.0, |largest, value| value.abs().max(largest));
            assert!((read - wanted).abs() <= 1e-6 * largest, "{read} {wanted}");
        }
    }

    #[test]
    fn shares_of_a_class_sum_up_to_it() {
        for (classes, columns) in [(2, 20), (3, 20), (30, 200), (70, 60)] {
            sums_up(&normal(classes * columns, 1), columns);
        }
    }

    /// Layers whose rows would show their classes however they are split.
    #[test]
    fn any_layer_is_split() {
        const F: usize = 50;
        let values = normal(10 * F, 2);
        let mut limits: Vec<f64> = values.iter().map(|value| value.abs()).collect();
        limits.sort_by(f64::total_cmp);
        let pruned = |value: &f64| {
            if value.abs() < limits[9 * F] {
                0.0
            } else {
                *value
            }
        };
        sums_up(&values.iter().map(pruned).collect::<Vec<_>>(), F);
        let coarse: Vec<f64> = values.iter().map(|value| value.round()).collect();
        sums_up(&coarse, F);
        let mut centred = values.clone();
        for column in 0..F {
            let mean = values.iter().skip(column).step_by(F).sum::<f64>() / 10.0;
            centred
                .iter_mut()
                .skip(column)
                .step_by(F)
                .for_each(|value| *value -= mean);
        }
        sums_up(&centred, F);
        let mut identical = values.clone();
        identical.copy_within(..F, F);
        sums_up(&identical, F);
        sums_up(&values[..F].repeat(10), F);
        let mut large = values.clone();
        large[..F].iter_mut().for_each(|value| *value *= 100.0);
        sums_up(&large, F);
        let mut none = values;
        none[..F].fill(0.0);
        sums_up(&none, F);
        sums_up(&[0.0; 3 * F], F);
    }

    #[test]
    fn a_seed_gives_the_same_shares() {
        let values = normal(40 * 60, 1);
        let made = split(&values, 60, N, &[7; 32]).unwrap();
        assert_eq!(split(&values, 60, N, &[7; 32]).unwrap(), made);
        let other = split(&values, 60, N, &[8; 32]).unwrap();
        assert!(other.iter().zip(&made).all(|(a, b)| a != b));
    }

    #[test]
    fn shares_are_as_large_as_classes_that_are_split() {
        let shares = split(&normal(40 * 60, 1), 60, N, &[7; 32]).unwrap();
        let squares = shares
            .iter()
            .flat_map(|(_, row)| row)
            .map(|value| value.powi(2));
        let mean = squares.sum::<f32>() / (40 * N * 60) as f32;
        // 1 / q, where q is 13 N / 12 in the mean.
        assert!((0.09..0.16).contains(&mean), "{mean}");
    }

    #[test]
    fn weights_are_the_same_as_floats_of_32_bits() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        for weight in draw_weights(10_000, &mut rng) {
            let p = f64::from(weight) * UNIT;
            assert!((0.5..=1.5).contains(&p.abs()));
            assert_eq!(f64::from(p as f32), p);
        }
    }
}
