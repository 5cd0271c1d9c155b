//! Multiplies blocks by a matrix.

use crate::apply::plan::{Direction, Plan};
use crate::key::Matrix;

/// Rows of the matrix, and blocks, to work on together.
const ROWS: usize = 4;
const LANES: usize = 4;

/// A matrix, in the order of pieces in an image.
pub(super) struct Mixer {
    n: usize,
    /// `[n / ROWS, n, ROWS]`: groups of rows, column by column, with the entries of a group's rows
    /// together. Missing rows at the end are zeros.
    values: Vec<f64>,
}

impl Mixer {
    pub(super) fn new(plan: &Plan, matrix: &Matrix, direction: Direction) -> Mixer {
        let n = matrix.n;
        let mut values = vec![0.0; n.next_multiple_of(ROWS) * n];
        for (i, row) in matrix.values.chunks_exact(n.max(1)).enumerate() {
            for (j, value) in row.iter().enumerate() {
                // The inverse of an orthogonal matrix is its transpose.
                let (i, j) = match direction {
                    Direction::Forwards => (i, j),
                    Direction::Backwards => (j, i),
                };
                let (i, j) = (plan.lies_at(i), plan.lies_at(j));
                values[(i / ROWS * n + j) * ROWS + i % ROWS] = *value;
            }
        }
        Mixer { n, values }
    }

    /// Multiplies each of `n_blocks` blocks of a strip.
    pub(super) fn mix(&self, plan: &Plan, n_blocks: usize, strip: &mut [f64]) {
        let (n, width, stride) = (self.n, plan.width, plan.stride());
        let place = |i: usize| i / width * stride + i % width;
        // A few blocks at a time, `[n, LANES]`, so that the products of one entry are adjacent.
        let mut blocks = vec![[0.0; LANES]; n];
        for first in (0..n_blocks).step_by(LANES) {
            let lanes = LANES.min(n_blocks - first);
            for (i, lane) in blocks.iter_mut().enumerate() {
                for (k, value) in lane.iter_mut().take(lanes).enumerate() {
                    *value = strip[place(i) + (first + k) * width];
                }
            }
            for (rows, i) in self.values.chunks_exact(n * ROWS).zip((0..).step_by(ROWS)) {
                let sums = products(rows, &blocks);
                for (i, sums) in (i..n).zip(&sums) {
                    for (k, sum) in sums.iter().take(lanes).enumerate() {
                        strip[place(i) + (first + k) * width] = *sum;
                    }
                }
            }
        }
    }
}

/// Multiplies some rows by some blocks.
fn products(rows: &[f64], blocks: &[[f64; LANES]]) -> [[f64; LANES]; ROWS] {
    let mut sums = [[0.0; LANES]; ROWS];
    for (entries, values) in rows.as_chunks::<ROWS>().0.iter().zip(blocks) {
        for (sums, entry) in sums.iter_mut().zip(entries) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += entry * value;
            }
        }
    }
    sums
}
