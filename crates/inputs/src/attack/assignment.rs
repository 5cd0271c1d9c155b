//! Assigns columns to rows.

use nalgebra::DMatrix;

/// Assigns a column to each row, each column once, those of the least cost first. `cost` is
/// `[n, n]`.
pub(super) fn assign(cost: &DMatrix<f64>) -> Vec<u32> {
    let n = cost.nrows();
    let mut order: Vec<usize> = (0..cost.len()).collect();
    order.sort_by(|a, b| cost[*a].total_cmp(&cost[*b]));
    let (mut columns, mut is_used) = (vec![None; n], vec![false; n]);
    // Values lie column by column.
    for (row, column) in order.into_iter().map(|at| (at % n, at / n)) {
        if columns[row].is_none() && !is_used[column] {
            (columns[row], is_used[column]) = (Some(column as u32), true);
        }
    }
    columns.into_iter().flatten().collect()
}
