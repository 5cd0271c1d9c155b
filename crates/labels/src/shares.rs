//! The rows that come in the place of classes: secret shares of their logits.
//!
//! With `A = [W | b]`, N shares of each class, and `q = 13 N / 12`:
//!
//! ```text
//! A_y = A_y + noise as wide as a step of the grid that its values lie on
//! A_y = A_y + c                                         c random, if all A_y sum up to nothing
//! p_y                                random, N numbers of either sign with sum p_y^2 = q
//! G_y = p_y A_y / q + U_y E_y / sqrt(q)                 so that sum_j p_yj G_yj = A_y
//! ```
//!
//! `U_y`, `[N, N - 1]`, are orthonormal columns perpendicular to `p_y`. The rows of all `E_y`,
//! `[N - 1, columns]`, are noise like the rows of A: of their scale in each column, and correlated
//! with them and with each other as they are among themselves. So neither the mean, nor the size,
//! nor the spectrum of rows shows a class. Weights plus differences that repeat would: the rows are
//! then a lattice. Classes that sum up to nothing would: weights then make a null vector of rows.
//!
//! All that is random follows from one seed. Who gets two sets of shares of one layer finds the
//! classes where both agree, so the same layer always gets the same set.

mod alike;
mod grid;
mod noise;

use std::convert::Infallible;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng as _;
use onnxseal_store::parallel;

use crate::draw::{stream, uniform};
use crate::error::Result;

/// What a weight of a share is counted in. Weights in it are floats of 32 bits, too.
pub const UNIT: f64 = 1.0 / (1 << 22) as f64;

/// The least and the greatest size of a weight, in [`UNIT`]s: 1/4, and less than 4.
const SIZES: std::ops::RangeInclusive<u32> = 1 << 20..=(1 << 24) - 1;

/// The mean of the squares of weights, the same for all classes: that of numbers from 0.5 to 1.5.
const MEAN_SQUARE: f64 = 13.0 / 12.0;

/// Streams of random numbers: those of the grid, and of the classes from 0 on.
const OF_GRID: u64 = 1 << 41;
const OF_CENTRE: u64 = 1 << 42;

/// Shares of all classes: N for the first one, N for the second one, and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// Rows, `[K N, columns]`.
    pub rows: Vec<f32>,
    /// The weight of each, in [`UNIT`]s.
    pub weights: Vec<i32>,
    /// How wide the noise is that hides the grid of the layer's weights, as a share of their mean
    /// size.
    pub width: f64,
    /// Whether classes sum up to nothing. They then got a row more, which all have in common, and
    /// which the mean of decoded logits takes away again.
    pub is_centred: bool,
}

/// A layer that is to be split: `[K, columns]` of which the first `features` are weights, the
/// others biases.
#[derive(Debug)]
pub struct Matrix {
    /// Values, row by row.
    pub values: Vec<f64>,
    /// Columns.
    pub columns: usize,
    /// Columns that are weights.
    pub features: usize,
}

/// Splits each row of `matrix` in `codewords` shares, on all cores. All that is random comes of
/// `seed`.
///
/// # Errors
/// [`crate::Error::Usage`] where weights have so few values that no noise hides them, and for
/// classes that rows show however they are split.
pub fn split(mut matrix: Matrix, codewords: usize, seed: &[u8; 32]) -> Result<Shares> {
    let (columns, features) = (matrix.columns, matrix.features);
    let widths = grid::widths(&matrix.values, columns, features)?;
    let width = grid::share(&matrix.values, &widths, columns, features);
    let is_centred = alike::is_centred(&matrix.values, &widths, columns);
    grid::add(&mut matrix.values, &widths, &mut stream(seed, OF_GRID));
    if is_centred {
        let mut rng = stream(seed, OF_CENTRE);
        alike::move_from_centre(&mut matrix.values, columns, &mut rng);
    }
    let layer = noise::Layer::of(&matrix.values, columns, seed);
    alike::check(&matrix.values, columns, &layer.sizes())?;
    let classes = matrix.values.len() / columns.max(1);
    // Fewer columns leave so many null vectors that none stands out.
    if 2 * columns > classes * codewords {
        alike::check_spectrum(&layer.spectrum())?;
    }
    let mut rows = vec![0.0; classes * codewords * columns];
    let mut weights = vec![0; classes * codewords];
    let of_class = (codewords * columns).max(1);
    let of_noise = codewords.saturating_sub(1);
    let noise = layer.noise(of_noise, seed)?;
    let jobs = matrix
        .values
        .chunks_exact(columns.max(1))
        .zip(noise.chunks_exact((of_noise * columns).max(1)))
        .zip(rows.chunks_exact_mut(of_class))
        .zip(weights.chunks_exact_mut(codewords.max(1)))
        .enumerate();
    let work = |(): &mut (), (y, (((class, noise), rows), weights)): Job<'_>| {
        draw_weights(weights, &mut stream(seed, y as u64));
        mix(class, weights, noise, rows);
        Ok::<(), Infallible>(())
    };
    let Ok(()) = parallel::for_each(false, classes as u64, jobs, || (), work);
    Ok(Shares {
        rows,
        weights,
        width,
        is_centred,
    })
}

/// A class, its row, its noise, and the places of its shares and of their weights.
type Job<'a> = (
    usize,
    (((&'a [f64], &'a [f64]), &'a mut [f32]), &'a mut [i32]),
);

/// Writes the shares of one class to `rows`, `[N, columns]`. `noise` is `[N - 1, columns]`.
///
/// `U` is the reflection that takes the first axis to `p`, up to its sign, without its first
/// column.
pub(crate) fn mix(class: &[f64], weights: &[i32], noise: &[f64], rows: &mut [f32]) {
    let p: Vec<f64> = weights
        .iter()
        .map(|weight| f64::from(*weight) * UNIT)
        .collect();
    let root = p.iter().map(|p| p * p).sum::<f64>().sqrt();
    // H = 1 - v v' / (1 + |p_0| / root), where v = p / root plus or minus the first axis.
    let mut v: Vec<f64> = p.iter().map(|p| p / root).collect();
    let beta = 1.0 + v.first().map_or(0.0, |first| first.abs());
    if let Some(first) = v.first_mut() {
        *first += first.signum();
    }
    let columns = class.len();
    for (i, class) in class.iter().enumerate() {
        let noise = noise.iter().skip(i).step_by(columns);
        let along: f64 = v
            .iter()
            .skip(1)
            .zip(noise.clone())
            .map(|(v, noise)| v * noise)
            .sum();
        // The first axis is that of the class.
        let noise = std::iter::once(&0.0).chain(noise);
        let places = rows.iter_mut().skip(i).step_by(columns);
        for (((place, noise), v), p) in places.zip(noise).zip(&v).zip(&p) {
            *place = ((p / root * class + noise - v * along / beta) / root) as f32;
        }
    }
}

/// Random weights of the shares of one class, in [`UNIT`]s.
pub(crate) fn draw_weights(weights: &mut [i32], rng: &mut ChaCha20Rng) {
    let draw = |_: &mut i32| {
        let sign = if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 };
        sign * (0.5 + uniform(rng))
    };
    let drawn: Vec<f64> = weights.iter_mut().map(draw).collect();
    let squares: f64 = drawn.iter().map(|p| p * p).sum();
    let scale = (MEAN_SQUARE * drawn.len() as f64 / squares).sqrt();
    for (weight, p) in weights.iter_mut().zip(drawn) {
        *weight = (scale * p / UNIT).round() as i32;
    }
}

/// Whether a share may have this weight.
pub(crate) fn is_weight(weight: i32) -> bool {
    SIZES.contains(&weight.unsigned_abs())
}

/// Whether the shares of one class may have these weights.
pub(crate) fn are_weights(weights: &[i32]) -> bool {
    let squares = weights
        .iter()
        .map(|weight| (f64::from(*weight) * UNIT).powi(2));
    let mean = squares.sum::<f64>() / weights.len().max(1) as f64;
    weights.iter().all(|weight| is_weight(*weight)) && (mean / MEAN_SQUARE - 1.0).abs() < 1e-5
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chacha20::rand_core::SeedableRng as _;
    use nalgebra::DMatrix;
    use rand_distr::{Distribution as _, StandardNormal};

    use super::*;

    const N: usize = 8;

    fn normal(n: usize, seed: u8) -> Vec<f64> {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        (0..n).map(|_| StandardNormal.sample(&mut rng)).collect()
    }

    fn shares(values: &[f64], columns: usize, features: usize, seed: u8) -> Shares {
        let matrix = Matrix {
            values: values.to_vec(),
            columns,
            features,
        };
        split(matrix, N, &[seed; 32]).unwrap()
    }

    fn p(shares: &Shares) -> Vec<f64> {
        let weights = shares.weights.iter();
        weights.map(|weight| f64::from(*weight) * UNIT).collect()
    }

    /// What is read of the rows with their weights.
    fn read(shares: &Shares, columns: usize) -> Vec<f64> {
        let mut classes = Vec::new();
        for (rows, p) in shares.rows.chunks(N * columns).zip(p(shares).chunks(N)) {
            for i in 0..columns {
                let parts = rows.iter().skip(i).step_by(columns).zip(p);
                classes.push(parts.map(|(row, p)| f64::from(*row) * p).sum());
            }
        }
        classes
    }

    /// Eigenvalues of rows of the same size in each of the loudest columns, ascending, and how much
    /// of each direction is a combination of classes.
    fn spectrum(shares: &Shares, columns: usize, loudest: usize) -> Vec<(f64, f64)> {
        let rows: Vec<f64> = shares.rows.iter().map(|value| f64::from(*value)).collect();
        let rows = DMatrix::from_row_slice(shares.weights.len(), columns, &rows);
        let mut kept: Vec<usize> = (0..columns).collect();
        kept.sort_by(|a, b| rows.column(*b).norm().total_cmp(&rows.column(*a).norm()));
        kept.truncate(loudest);
        let mut rows = rows.select_columns(&kept);
        for mut column in rows.column_iter_mut() {
            let norm = column.norm();
            if norm > 0.0 {
                column.scale_mut(1.0 / norm);
            }
        }
        let found = (&rows * rows.transpose()).symmetric_eigen();
        let p = p(shares);
        let mut all: Vec<(f64, f64)> = found
            .eigenvectors
            .column_iter()
            .zip(found.eigenvalues.iter())
            .map(|(direction, value)| {
                let classes = direction.as_slice().chunks(N).zip(p.chunks(N));
                let along = classes.map(|(v, p)| {
                    let product: f64 = v.iter().zip(p).map(|(v, p)| v * p).sum();
                    product * product / p.iter().map(|p| p * p).sum::<f64>()
                });
                (*value, along.sum())
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    }

    #[test]
    fn shares_of_a_class_sum_up_to_it() {
        for (classes, columns) in [(2, 20), (3, 20), (30, 200), (70, 60)] {
            let values = normal(classes * columns, 1);
            let made = shares(&values, columns, columns, 7);
            assert_eq!(made.rows.len(), classes * N * columns);
            for (read, wanted) in read(&made, columns).iter().zip(&values) {
                assert!((read - wanted).abs() < 3e-6, "{read} {wanted}");
            }
            for (weights, p) in made.weights.chunks(N).zip(p(&made).chunks(N)) {
                assert!(weights.iter().all(|weight| is_weight(*weight)));
                let q: f64 = p.iter().map(|p| p * p).sum();
                assert!((q / (MEAN_SQUARE * N as f64) - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_shares() {
        let values = normal(40 * 60, 1);
        let made = shares(&values, 60, 60, 7);
        assert_eq!(shares(&values, 60, 60, 7), made);
        let other = shares(&values, 60, 60, 8);
        let equal = other.rows.iter().zip(&made.rows).filter(|(a, b)| a == b);
        assert!(equal.count() < 10);
    }

    #[test]
    fn weights_are_the_same_as_floats_of_32_bits() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        for n in [2, 3, 8, 64] {
            for _ in 0..1000 {
                let mut weights = vec![0; n];
                draw_weights(&mut weights, &mut rng);
                for weight in weights {
                    assert!(is_weight(weight));
                    let p = f64::from(weight) * UNIT;
                    assert_eq!(f64::from(p as f32), p);
                }
            }
        }
    }

    #[test]
    fn rows_of_all_classes_have_the_size_that_weights_have() {
        // Columns of very different sizes; biases are larger than all weights.
        let (classes, columns) = (10, 401);
        let mut values = normal(classes * columns, 2);
        for (i, value) in values.iter_mut().enumerate() {
            let column = i % columns;
            *value *= if column == 400 {
                1e3
            } else {
                (column as f64 / 100.0).exp2()
            };
        }
        let made = shares(&values, columns, 400, 7);
        let q = MEAN_SQUARE * N as f64;
        let size = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        for column in 0..columns {
            let weights: Vec<f64> = values
                .iter()
                .skip(column)
                .step_by(columns)
                .copied()
                .collect();
            let rows = made.rows.iter().skip(column).step_by(columns);
            let rows: Vec<f64> = rows.map(|row| f64::from(*row)).collect();
            let ratio = size(&rows) / (N * classes) as f64 * q / (size(&weights) / classes as f64);
            assert!((0.05..20.0).contains(&ratio), "{column}: {ratio}");
        }
    }

    #[test]
    fn no_direction_in_which_rows_vary_little_or_much_is_one_of_classes() {
        let (classes, columns) = (10, 512);
        let centred = |values: &[f64]| -> Vec<f64> {
            let mean = |i: usize| {
                let column = values.iter().skip(i % columns).step_by(columns);
                column.sum::<f64>() / classes as f64
            };
            let all = values.iter().enumerate();
            all.map(|(i, value)| value - mean(i)).collect()
        };
        let shifted = |values: &[f64]| -> Vec<f64> {
            let common = normal(columns, 99);
            let all = values.iter().zip(common.iter().cycle());
            all.map(|(value, common)| value + 20.0 * common).collect()
        };
        let pruned = |values: &[f64]| -> Vec<f64> {
            let keep = |value: &f64| if value.abs() < 1.6 { 0.0 } else { *value };
            values.iter().map(keep).collect()
        };
        type Layer<'a> = &'a dyn Fn(&[f64]) -> Vec<f64>;
        let layers: [(&str, Layer<'_>); 3] = [
            ("answers that sum up to nothing", &centred),
            ("the same added to all classes", &shifted),
            ("nine in ten weights pruned", &pruned),
        ];
        for (what, layer) in layers {
            for loudest in [columns, columns / 4] {
                let (mut ends, mut low, mut high) = ([0.0; 2], 0.0, 0.0);
                for seed in 0..6 {
                    let values = layer(&normal(classes * columns, seed));
                    let made = shares(&values, columns, columns, seed);
                    let found = spectrum(&made, columns, loudest);
                    let along: Vec<f64> = found.iter().map(|(_, along)| *along).collect();
                    ends[0] += along[0] / 6.0;
                    ends[1] += along[along.len() - 1] / 6.0;
                    low += along[..classes].iter().sum::<f64>() / 60.0;
                    high += along[along.len() - classes..].iter().sum::<f64>() / 60.0;
                }
                // An eighth, on average, of a direction that is none of classes'.
                let all = format!("{what}, {loudest} columns: {ends:?} {low} {high}");
                assert!(ends.iter().all(|along| *along < 0.6), "{all}");
                assert!(low < 0.25 && high < 0.25, "{all}");
            }
        }
    }

    #[test]
    fn columns_and_layers_of_zeros() {
        let (classes, columns) = (4, 50);
        let mut values = normal(classes * columns, 3);
        for value in values.iter_mut().skip(7).step_by(columns) {
            *value = 0.0;
        }
        let made = shares(&values, columns, columns, 7);
        let zeros = made.rows.iter().skip(7).step_by(columns);
        assert!(zeros.clone().all(|row| *row == 0.0));
        for (read, wanted) in read(&made, columns).iter().zip(&values) {
            assert!((read - wanted).abs() < 3e-6);
        }
    }

    #[test]
    fn classes_that_rows_show_are_refused() {
        let (classes, columns) = (10, 64);
        let changed = |change: fn(f64, f64) -> f64| {
            let mut values = normal(classes * columns, 1);
            for i in 0..columns {
                values[4 * columns + i] = change(values[4 * columns + i], values[i]);
            }
            let matrix = Matrix {
                values,
                columns,
                features: columns,
            };
            split(matrix, N, &[7; 32]).map_err(|error| error.to_string())
        };
        assert!(changed(|value, _| 2.0 * value).is_ok());
        for (change, why) in [
            ((|_, _| 0.0) as fn(f64, f64) -> f64, "times as large"),
            (|value, _| 8.0 * value, "times as large"),
            (|_, first| first, "classes 0 and 4 are the same"),
            (|_, first| -1.5 * first, "classes 0 and 4 are the same"),
        ] {
            let error = changed(change).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn classes_that_depend_on_each_other_are_refused_where_a_null_vector_stands_out() {
        let classes = 10;
        let mean_of_two = |values: &mut [f64], columns: usize| {
            for i in 0..columns {
                values[4 * columns + i] = (values[i] + values[columns + i]) / 2.0;
            }
        };
        let nearly_nothing = |values: &mut [f64], columns: usize| {
            for i in 0..columns {
                let sum: f64 = values.iter().skip(i).step_by(columns).sum();
                values[i] -= 0.999 * sum;
            }
        };
        type Change<'a> = &'a dyn Fn(&mut [f64], usize);
        for change in [&mean_of_two as Change<'_>, &nearly_nothing] {
            // 80 rows: of 256 columns, a null vector; of 60, one among 20 more; of 40, among 40.
            for (columns, is_refused) in [(256, true), (60, true), (40, false)] {
                let mut values = normal(classes * columns, 1);
                change(&mut values, columns);
                let matrix = Matrix {
                    values,
                    columns,
                    features: columns,
                };
                match split(matrix, N, &[7; 32]) {
                    Err(error) => {
                        assert!(is_refused, "{columns}: {error}");
                        assert!(
                            error.to_string().contains("depend on each other"),
                            "{error}"
                        );
                    }
                    Ok(_) => assert!(!is_refused, "{columns}"),
                }
            }
        }
    }

    #[test]
    fn classes_that_summed_up_to_nothing_before_they_were_rounded_are_moved() {
        let (classes, columns) = (10, 256);
        let mut values = normal(classes * columns, 1);
        for i in 0..columns {
            let mean = values.iter().skip(i).step_by(columns).sum::<f64>() / classes as f64;
            for value in values.iter_mut().skip(i).step_by(columns) {
                // To 11 bits, as float16.
                let step = ((*value - mean).abs().log2().floor() - 10.0).exp2();
                *value = ((*value - mean) / step).round() * step;
            }
        }
        assert!(shares(&values, columns, columns, 7).is_centred);
    }

    #[test]
    fn classes_that_sum_up_to_nothing_are_moved() {
        let columns = 30;
        let half = normal(columns, 1);
        let values: Vec<f64> = half.iter().chain(&half).copied().collect();
        let values: Vec<f64> = (values.iter().enumerate())
            .map(|(i, value)| if i < columns { *value } else { -value })
            .collect();
        let made = shares(&values, columns, columns, 7);
        assert!(made.is_centred);
        let read = read(&made, columns);
        for (i, wanted) in half.iter().enumerate() {
            let (one, other) = (read[i], read[columns + i]);
            assert!(((one - other) / 2.0 - wanted).abs() < 3e-6);
            assert!((one + other).abs() > 1e-6);
        }
        assert!(!shares(&normal(2 * columns, 1), columns, columns, 7).is_centred);
    }
}
