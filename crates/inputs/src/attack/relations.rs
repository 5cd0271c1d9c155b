//! The relations between the positions of a block, and to those of its neighbours.

use nalgebra::{DMatrix, DVector};

use super::grid::{Grid, Pictures};
use crate::error::Result;

/// A block with itself, with its right neighbour, and with the one below. Neighbours tell left from
/// right and up from down.
const SHIFTS: [(usize, usize); 3] = [(0, 0), (0, 1), (1, 0)];

/// Added to the variance of two blocks, so that uniform ones do not weigh too much.
const EVEN: f64 = 16.0;

/// For each of [`SHIFTS`], the logarithm of the mean squared difference between position t of a
/// block and u of the other one.
pub(super) type Relations = [DMatrix<f64>; 3];

/// Sums of weighted squared differences, and of the weights.
struct Sums {
    sums: [DMatrix<f64>; 3],
    counts: [f64; 3],
}

/// Returns which positions oppose most others: the signs of the leading eigenvector of their
/// correlations. All pixels of a small block correlate in plain images; a negated one opposes the
/// others.
pub(super) fn signs(grid: &Grid) -> Vec<bool> {
    let n = grid.n_values;
    let mut blocks = DMatrix::from_row_slice(grid.values.len() / n, n, &grid.values);
    for mut column in blocks.column_iter_mut() {
        let mean = column.mean();
        column.add_scalar_mut(-mean);
        let deviation = column.norm() / (column.len() as f64).sqrt();
        column.scale_mut(1.0 / (deviation + 1e-9));
    }
    let mut vector = DVector::from_fn(n, |t, _| 1.0 + 1e-3 * t as f64);
    for _ in 0..100 {
        vector = blocks.tr_mul(&(&blocks * &vector));
        let norm = vector.norm();
        vector.scale_mut(1.0 / norm.max(f64::MIN_POSITIVE));
    }
    vector.iter().map(|value| *value < 0.0).collect()
}

/// Computes the relations in keyed images.
pub(super) fn of_keyed(grid: &Grid) -> Relations {
    let mut sums = Sums::new(grid.n_values);
    sums.add(grid);
    sums.finish()
}

/// Computes the relations in plain images, at several offsets of the grid, since natural images are
/// independent of a grid, and smooths them, since relations are alike everywhere.
pub(super) fn of_public(pictures: &Pictures<'_>, block: u32) -> Result<Relations> {
    let block = block as usize;
    let mut sums = Sums::new(block * block * pictures.channels);
    let offsets = || (0..block).step_by((block / 4).max(1));
    for (top, left) in offsets().flat_map(|top| offsets().map(move |left| (top, left))) {
        sums.add(&Grid::at(pictures, block, (top, left))?);
    }
    Ok(smooth(sums.finish(), block, pictures.channels))
}

impl Sums {
    fn new(n: usize) -> Sums {
        Sums {
            sums: std::array::from_fn(|_| DMatrix::zeros(n, n)),
            counts: [0.0; 3],
        }
    }

    fn add(&mut self, grid: &Grid) {
        let n = grid.n_values;
        let [images, rows, columns] = grid.shape;
        for (((down, across), sums), count) in
            SHIFTS.into_iter().zip(&mut self.sums).zip(&mut self.counts)
        {
            // A few at a time, to limit memory.
            let mut pairs = Vec::new();
            for image in 0..images {
                for (y, x) in (0..rows.saturating_sub(down))
                    .flat_map(|y| (0..columns.saturating_sub(across)).map(move |x| (y, x)))
                {
                    pairs.push((
                        grid.block_at(image, y, x),
                        grid.block_at(image, y + down, x + across),
                    ));
                }
            }
            for pairs in pairs.chunks(4096) {
                let k = pairs.len();
                let (mut a, mut b) = (DMatrix::zeros(k, n), DMatrix::zeros(k, n));
                let mut weighted = DMatrix::zeros(k, n);
                let (mut of_a, mut of_b) = (vec![0.0; n], vec![0.0; n]);
                for (i, (one, other)) in pairs.iter().enumerate() {
                    let weight = 1.0 / (variance(one, other) + EVEN);
                    for (t, (one, other)) in one.iter().zip(*other).enumerate() {
                        (a[(i, t)], b[(i, t)]) = (*one, *other);
                        weighted[(i, t)] = weight * one;
                        of_a[t] += weight * one * one;
                        of_b[t] += weight * other * other;
                    }
                }
                let products = weighted.tr_mul(&b);
                for (u, mut column) in sums.column_iter_mut().enumerate() {
                    for (t, sum) in column.iter_mut().enumerate() {
                        *sum += of_a[t] + of_b[u] - 2.0 * products[(t, u)];
                    }
                }
                *count += k as f64;
            }
        }
    }

    fn finish(self) -> Relations {
        let Sums { sums, counts } = self;
        let mut relations = sums;
        for (matrix, count) in relations.iter_mut().zip(counts) {
            matrix.apply(|sum| *sum = (sum.max(0.0) / f64::max(count, 1.0) + 1e-4).ln());
        }
        relations[0].fill_diagonal(0.0);
        relations
    }
}

fn variance(one: &[f64], other: &[f64]) -> f64 {
    let values = || one.iter().chain(other);
    let n = (one.len() + other.len()).max(1) as f64;
    let mean = values().sum::<f64>() / n;
    values().map(|value| (value - mean).powi(2)).sum::<f64>() / n
}

/// Replaces half of each relation by the mean over equal channels and displacements; columns to the
/// left and to the right count alike.
fn smooth(relations: Relations, block: usize, channels: usize) -> Relations {
    let (height, width) = (4 * block, 2 * block);
    let slot = |shift: usize, t: usize, u: usize| {
        let (down, across) = SHIFTS.get(shift).copied().unwrap_or_default();
        let place = |t: usize| (t / channels / block, t / channels % block, t % channels);
        let ((rt, ct, ht), (ru, cu, hu)) = (place(t), place(u));
        let rows = (ru + down * block + 2 * block).saturating_sub(rt);
        let columns = (cu + across * block).abs_diff(ct);
        ((ht * channels + hu) * height + rows) * width + columns
    };
    let mut means = vec![(0.0, 0.0); channels * channels * height * width];
    let n = block * block * channels;
    let places = || (0..n).flat_map(move |u| (0..n).map(move |t| (t, u)));
    for (shift, matrix) in relations.iter().enumerate() {
        for (t, u) in places() {
            if let Some((sum, count)) = means.get_mut(slot(shift, t, u)) {
                *sum += matrix[(t, u)];
                *count += 1.0;
            }
        }
    }
    let mut smoothed = relations;
    for (shift, matrix) in smoothed.iter_mut().enumerate() {
        for (t, u) in places() {
            let (sum, count) = means.get(slot(shift, t, u)).copied().unwrap_or_default();
            matrix[(t, u)] = (matrix[(t, u)] + sum / f64::max(count, 1.0)) / 2.0;
        }
    }
    smoothed[0].fill_diagonal(0.0);
    smoothed
}
