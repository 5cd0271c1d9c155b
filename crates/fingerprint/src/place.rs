//! Puts the elements of a copy in the places of the original's.

use nalgebra::{DMatrix, DMatrixView};

use crate::fit::Placed;
use crate::weights::Original;

/// The correlation from which on a tensor is taken for the copy.
const ALIKE: f64 = 0.5;

/// Rows to compare, and elements of each.
const ROWS: usize = 32;
const COLUMNS: usize = 256;

/// The most axes to exchange.
const MAX_AXES: usize = 4;

/// The most rows to assign, and elements of each to compare.
const MAX_ASSIGNED: usize = 4096;
const COMPARED: usize = 1024;

/// Rounds of making rows and columns equally large.
const ROUNDS: usize = 4;

/// Sides of the blocks that attention heads are, and small matrices.
const HEADS: std::ops::RangeInclusive<usize> = 4..=768;

/// Steps for each row after which a rotation is given up.
const MAX_STEPS: usize = 64;

/// How much alike products of rows have to be: three quarters of a block have as much in common.
const SAME: f64 = 0.85;

/// Puts axes in the order of the original's, if the copy is like it then. Returns what it did.
pub fn turned(original: &Original, copy: &mut Placed) -> Option<&'static str> {
    for order in orders(original.dims.len()) {
        let at = |i: usize| copy.values[place(&original.dims, &order, i)];
        if likeness(original, at) < ALIKE {
            continue;
        }
        if order.is_sorted() {
            return Some("as it was");
        }
        copy.values = (0..copy.values.len()).map(at).collect();
        return Some("transposed");
    }
    None
}

/// Returns all orders of the first axes, the present one first.
fn orders(n_axes: usize) -> Vec<Vec<usize>> {
    let n_moved = n_axes.min(MAX_AXES);
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    for step in 0..n_axes {
        let longer = all.iter().flat_map(|order| {
            let left = if step < n_moved {
                0..n_moved
            } else {
                step..step + 1
            };
            let left = left.filter(|axis| !order.contains(axis));
            left.map(|axis| [&order[..], &[axis]].concat())
        });
        all = longer.collect();
    }
    all
}

/// Returns where element `i` of the original is in a copy that has the axes in this order.
fn place(dims: &[usize], order: &[usize], i: usize) -> usize {
    order.iter().fold(0, |place, axis| {
        let after: usize = dims[axis + 1..].iter().product();
        place * dims[*axis] + i / after % dims[*axis]
    })
}

/// Returns the mean size of the correlation of some rows with those of a copy, of which `at` gives
/// the elements. Zeros of the copy do not count.
fn likeness(original: &Original, at: impl Fn(usize) -> f32) -> f64 {
    let (rows, columns) = (original.rows, original.columns);
    let (row_step, column_step) = (rows.div_ceil(ROWS), columns.div_ceil(COLUMNS));
    let (mut sum, mut n_rows) = (0.0, 0.0);
    for row in (0..rows).step_by(row_step.max(1)) {
        let places = (0..columns).step_by(column_step.max(1));
        let pairs = places.map(|column| {
            let i = row * columns + column;
            (f64::from(original.values[i]), f64::from(at(i)))
        });
        let pairs: Vec<(f64, f64)> = pairs.filter(|pair| pair.1 != 0.0).collect();
        if pairs.len() > 2 {
            n_rows += 1.0;
            sum += correlation(&pairs).abs();
        }
    }
    sum / f64::max(n_rows, 1.0)
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
    let (a, b) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (x, y) = (x - a, y - b);
        (aa, bb, ab) = (aa + x * x, bb + y * y, ab + x * y);
    }
    let found = ab / (aa * bb).sqrt();
    if found.is_finite() { found } else { 0.0 }
}

/// Puts rows and columns in the original's order, or turns back rotated blocks, if the copy is like
/// the original then. Returns what it did.
pub fn scattered(original: &Original, copy: Placed) -> Option<(&'static str, Placed)> {
    let (rows, columns) = (original.rows, original.columns);
    if !copy.values.iter().all(|c| c.is_finite()) {
        return None;
    }
    let wanted = DMatrix::from_row_slice(rows, columns, &original.values);
    // As it is, and transposed.
    for found in [
        DMatrix::from_row_slice(rows, columns, &copy.values),
        DMatrix::from_column_slice(rows, columns, &copy.values),
    ] {
        if let Some(values) = ordered(original, &wanted, &found) {
            return Some(("rows or columns permuted", Placed { values, ..copy }));
        }
        if let Some((values, n_fitted)) = rotated(original, &wanted, &found) {
            let placed = Placed {
                values,
                n_fitted,
                ..copy
            };
            return Some(("rotated", placed));
        }
    }
    None
}

/// Returns the elements of a matrix by rows, if it is like the original.
fn if_alike(original: &Original, found: &DMatrix<f32>) -> Option<Vec<f32>> {
    let values = found.transpose().as_slice().to_vec();
    (likeness(original, |i| values[i]) >= ALIKE).then_some(values)
}

/// Puts rows, or columns, or both in the original's order.
fn ordered(original: &Original, wanted: &DMatrix<f32>, found: &DMatrix<f32>) -> Option<Vec<f32>> {
    if wanted.nrows().max(wanted.ncols()) > MAX_ASSIGNED {
        return None;
    }
    let by_rows = |found: &DMatrix<f32>| {
        let found = found.select_rows(&assign(wanted, found));
        if_alike(original, &found)
    };
    let by_columns = |wanted: &DMatrix<f32>, found: &DMatrix<f32>| {
        assign(&wanted.transpose(), &found.transpose())
    };
    by_rows(found)
        .or_else(|| by_rows(&found.select_columns(&by_columns(wanted, found))))
        .or_else(|| {
            // The sorted elements of a row stay the same if columns change places.
            let (even, found_even) = (evened(wanted), evened(found));
            let rows = assign(&sorted(&even), &sorted(&found_even));
            let columns = by_columns(&even, &found_even.select_rows(&rows));
            by_rows(&found.select_columns(&columns))
        })
}

/// Gives all rows a length of 1, but those of zeros.
fn unit(mut matrix: DMatrix<f32>) -> DMatrix<f32> {
    for mut row in matrix.row_iter_mut() {
        let size = row.norm();
        row /= if size > 0.0 { size } else { 1.0 };
    }
    matrix
}

/// Makes all rows and columns of a matrix about equally large.
fn evened(matrix: &DMatrix<f32>) -> DMatrix<f32> {
    let even = |matrix: DMatrix<f32>, _| unit(unit(matrix).transpose()).transpose();
    (0..ROUNDS).fold(matrix.clone(), even)
}

/// Returns the rows with their elements sorted, less the mean of all such rows.
fn sorted(matrix: &DMatrix<f32>) -> DMatrix<f32> {
    let mut turned = matrix.transpose();
    for mut row in turned.column_iter_mut() {
        row.as_mut_slice().sort_by(f32::total_cmp);
    }
    let mean = turned.column_mean();
    for mut row in turned.column_iter_mut() {
        row -= &mean;
    }
    turned.transpose()
}

/// Returns, for each row of `wanted`, the row of `found` with the same direction, or the opposite
/// one: those that are most alike first.
fn assign(wanted: &DMatrix<f32>, found: &DMatrix<f32>) -> Vec<usize> {
    let step = wanted.ncols().div_ceil(COMPARED).max(1);
    let some: Vec<usize> = (0..wanted.ncols()).step_by(step).collect();
    let unit = |matrix: &DMatrix<f32>| unit(matrix.select_columns(&some));
    let cosines = unit(wanted) * unit(found).transpose();
    let (n, cosines) = (wanted.nrows(), cosines.as_slice());
    let mut order: Vec<usize> = (0..n * n).collect();
    order.sort_unstable_by(|a, b| cosines[*b].abs().total_cmp(&cosines[*a].abs()));
    let (mut rows, mut is_used) = (vec![None; n], vec![false; n]);
    for (row, other) in order.into_iter().map(|at| (at % n, at / n)) {
        if rows[row].is_none() && !is_used[other] {
            (rows[row], is_used[other]) = (Some(other), true);
        }
    }
    rows.into_iter().flatten().collect()
}

/// Turns back blocks of columns, or of rows, that were multiplied by orthogonal matrices. Returns
/// how many numbers that fitted, too.
fn rotated(
    original: &Original,
    wanted: &DMatrix<f32>,
    found: &DMatrix<f32>,
) -> Option<(Vec<f32>, f64)> {
    for is_turned in [false, true] {
        let turn = |matrix: &DMatrix<f32>| match is_turned {
            true => matrix.transpose(),
            false => matrix.clone(),
        };
        let (wanted, mut turned) = (turn(wanted), turn(found));
        let (long, side) = wanted.shape();
        let mut heads = HEADS.filter(|head| side.is_multiple_of(*head) && *head <= long);
        let Some(head) = heads.find(|head| products_alike(&wanted, &turned, *head) > SAME) else {
            continue;
        };
        for at in (0..side).step_by(head) {
            let back = turn_back(&wanted.columns(at, head), &turned.columns(at, head));
            turned.columns_mut(at, head).copy_from(&back);
        }
        if let Some(values) = if_alike(original, &turn(&turned)) {
            return Some((values, (side * (head - 1) / 2) as f64));
        }
    }
    None
}

/// Returns how alike two blocks of columns are in the products of their rows, which stay the same if
/// a block is multiplied by an orthogonal matrix.
fn products_alike(wanted: &DMatrix<f32>, found: &DMatrix<f32>, head: usize) -> f64 {
    let step = wanted.nrows().div_ceil(ROWS).max(1);
    let rows: Vec<usize> = (0..wanted.nrows()).step_by(step).collect();
    let products = |matrix: &DMatrix<f32>| {
        let some = matrix.columns(0, head).select_rows(&rows);
        &some * some.transpose()
    };
    let (wanted, found) = (products(wanted), products(found));
    let pairs = wanted.iter().zip(found.iter()).enumerate();
    // Those of rows with themselves are large in any matrix.
    let pairs = pairs.filter(|(i, _)| i % rows.len() != i / rows.len());
    let pairs = pairs.map(|(_, (a, b))| (f64::from(*a), f64::from(*b)));
    correlation(&pairs.collect::<Vec<_>>())
}

/// Multiplies a matrix by the orthogonal one that makes it most like another.
fn turn_back(wanted: &DMatrixView<'_, f32>, found: &DMatrixView<'_, f32>) -> DMatrix<f32> {
    let product = found.transpose().cast::<f64>() * wanted.clone_owned().cast::<f64>();
    let max_steps = MAX_STEPS * product.nrows();
    let svd = product.try_svd(true, true, f64::EPSILON, max_steps);
    match svd.and_then(|svd| Some(svd.u? * svd.v_t?)) {
        Some(back) => found * back.cast::<f32>(),
        None => found.into_owned(),
    }
}
