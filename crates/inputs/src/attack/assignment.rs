//! The assignment problem.

use nalgebra::DMatrix;
use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;

/// Steps from the least to the largest cost. Costs become integers, because floats are not totally
/// ordered.
const STEPS: f64 = (1_u64 << 40) as f64;

/// Assigns a column to each row, each column once, with the least total cost. `cost` is `[n, n]`.
pub(super) fn assign(cost: &DMatrix<f64>) -> Vec<usize> {
    let (least, most) = (cost.min(), cost.max());
    let scale = STEPS / (most - least).max(f64::MIN_POSITIVE);
    let steps = |row: usize, column: usize| ((cost[(row, column)] - least) * scale) as i64;
    let (n, _) = cost.shape();
    if n == 0 {
        return Vec::new();
    }
    let weights = Matrix::from_fn(n, n, |(row, column)| steps(row, column));
    kuhn_munkres_min(&weights).1
}
