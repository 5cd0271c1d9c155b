//! Completes a matrix by one of low rank.

use nalgebra::DMatrix;

/// The most elements of a matrix to complete.
const MAX_ELEMENTS: usize = 1 << 20;

/// The most rounds.
const MAX_ROUNDS: usize = 30;

/// Rounds end when encrypted elements change by less than this share of their size.
const CLOSE: f64 = 1e-4;

/// Replaces the masked elements of a matrix, stored by rows in `values`, by those of the matrix of
/// low rank that fits the others; the rank is a tenth of the smaller side. It starts from the
/// present masked elements. Returns `false` if the matrix is too large.
///
/// Each round fits the best matrix of that rank to all elements and copies its elements to the
/// masked places (Mazumder, Hastie and Tibshirani, "Spectral regularization algorithms for learning
/// large incomplete matrices", 2010, with a hard threshold). One step of subspace iteration
/// improves the singular vectors of the previous round.
pub(super) fn complete(values: &mut [f32], mask: &[bool], rows: usize, columns: usize) -> bool {
    if values.len() > MAX_ELEMENTS {
        return false;
    }
    let smaller = rows.min(columns);
    if smaller < 2 || rows * columns != values.len() {
        // A vector always has rank 1: there is nothing to complete.
        return true;
    }
    let rank = (smaller / 10).max(1);
    let mut matrix = DMatrix::from_row_slice(rows, columns, values).cast::<f64>();
    // Start from the span of the rows, mixed by multiples of an irrational number.
    let mut right = DMatrix::from_fn(columns, rank, |i, j| {
        ((i * rank + j + 1) as f64 * 0.618_033_988_75).fract() - 0.5
    });
    right = right.qr().q();
    for round in 0..MAX_ROUNDS {
        for _ in 0..if round == 0 { 4 } else { 1 } {
            let left = (&matrix * &right).qr().q();
            right = (matrix.tr_mul(&left)).qr().q();
        }
        let left = &matrix * &right;
        let fit = left * right.transpose();
        let (mut change, mut size) = (0.0, 0.0);
        for (i, hidden) in mask.iter().enumerate() {
            if *hidden {
                let at = (i / columns, i % columns);
                change += (fit[at] - matrix[at]).powi(2);
                size += fit[at].powi(2);
                matrix[at] = fit[at];
            }
        }
        if change <= CLOSE * CLOSE * size {
            break;
        }
    }
    for (i, (value, hidden)) in values.iter_mut().zip(mask).enumerate() {
        let completed = matrix[(i / columns, i % columns)];
        if *hidden && completed.is_finite() {
            *value = completed as f32;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_rank_one_comes_back() {
        let (rows, columns) = (12, 15);
        let truth: Vec<f32> = (0..rows * columns)
            .map(|i| (1.0 + (i / columns) as f32) * (2.0 + (i % columns) as f32 * 0.5))
            .collect();
        let mask: Vec<bool> = (0..rows * columns).map(|i| i % 7 == 3).collect();
        let masked = truth.iter().zip(&mask);
        let masked = masked.map(|(v, m)| if *m { 30.0 } else { *v });
        let mut values: Vec<f32> = masked.collect();
        assert!(complete(&mut values, &mask, rows, columns));
        for (got, want) in values.iter().zip(&truth) {
            let off = (got - want).abs();
            assert!(off < 0.05 * want.abs().max(1.0), "{got} {want}");
        }
        let n = MAX_ELEMENTS + 1;
        assert!(!complete(&mut vec![0.0; n], &[], 1, n));
    }
}
