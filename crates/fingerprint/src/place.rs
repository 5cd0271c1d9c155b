//! Puts the elements of a copy in the places of the original's.

use nalgebra::{DMatrix, RowDVector};

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

/// Sides of the blocks that attention heads are, and whole small matrices.
const HEADS: [usize; 13] = [8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 128, 256, 512];

const MAX_HEAD: usize = 768;

/// Steps for each row after which a rotation is given up.
const MAX_STEPS: usize = 64;

/// How much less alike smaller blocks may be.
const SLACK: f64 = 0.05;

/// Puts axes in the order of the original's, if the copy is like it then. Returns what it did.
pub fn turned(original: &Original, copy: &mut Placed) -> Option<&'static str> {
    if original.values.len() != copy.values.len() {
        return None;
    }
    for order in orders(original.dims.len()) {
        let strides = strides(&original.dims, &order);
        let at = |i: usize| copy.values.get(place(&original.dims, &strides, i)).copied();
        if likeness(original, |i| at(i).unwrap_or(0.0)) < ALIKE {
            continue;
        }
        if order.is_sorted() {
            return Some("as it was");
        }
        let places = 0..copy.values.len();
        copy.values = places.map(|i| at(i).unwrap_or(0.0)).collect();
        return Some("transposed");
    }
    None
}

/// Returns all orders of axes, the present one first.
fn orders(n_axes: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = vec![Vec::new()];
    if n_axes > MAX_AXES {
        return vec![(0..n_axes).collect()];
    }
    for _ in 0..n_axes {
        let longer = all.iter().flat_map(|order| {
            let left = (0..n_axes).filter(|axis| !order.contains(axis));
            left.map(|axis| [&order[..], &[axis]].concat())
        });
        all = longer.collect();
    }
    all
}

/// Returns how far apart in the copy neighbours along each axis of the original are, if the copy
/// has the original's axes in this order.
fn strides(dims: &[usize], order: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    let mut stride = 1;
    for axis in order.iter().rev() {
        strides[*axis] = stride;
        stride *= dims[*axis];
    }
    strides
}

/// Returns where element `i` of the original is in the copy.
fn place(dims: &[usize], strides: &[usize], mut i: usize) -> usize {
    let mut place = 0;
    for (dim, stride) in dims.iter().zip(strides).rev() {
        place += i % dim * stride;
        i /= dim;
    }
    place
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
    if copy.values.len() != original.values.len() || !copy.values.iter().all(|c| c.is_finite()) {
        return None;
    }
    let wanted = DMatrix::from_row_slice(rows, columns, &original.values);
    let found = DMatrix::from_row_slice(rows, columns, &copy.values);
    // As it is, and transposed.
    let other = DMatrix::from_column_slice(rows, columns, &copy.values);
    for found in [&found, &other] {
        if let Some(values) = ordered(original, &wanted, found) {
            return Some(("rows or columns permuted", Placed { values, ..copy }));
        }
        if let Some((values, n_fitted)) = rotated(original, &wanted, found) {
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
fn if_alike(original: &Original, found: &DMatrix<f32>, least: f64) -> Option<Vec<f32>> {
    let values = found.transpose().as_slice().to_vec();
    (likeness(original, |i| values[i]) >= least).then_some(values)
}

/// Puts rows, or columns, or both in the original's order.
fn ordered(original: &Original, wanted: &DMatrix<f32>, found: &DMatrix<f32>) -> Option<Vec<f32>> {
    if wanted.nrows().max(wanted.ncols()) > MAX_ASSIGNED {
        return None;
    }
    let by_rows = |found: &DMatrix<f32>| found.select_rows(&assign(wanted, found));
    let by_columns = |found: &DMatrix<f32>| {
        let order = assign(&wanted.transpose(), &found.transpose());
        found.select_columns(&order)
    };
    if let Some(values) = if_alike(original, &by_rows(found), ALIKE) {
        return Some(values);
    }
    if let Some(values) = if_alike(original, &by_columns(found), ALIKE) {
        return Some(values);
    }
    // The sorted elements of a row stay the same if columns change places.
    let (even, found_even) = (evened(wanted), evened(found));
    let rows = assign(&sorted(&even), &sorted(&found_even));
    let columns = assign(
        &even.transpose(),
        &found_even.select_rows(&rows).transpose(),
    );
    let found = found.select_columns(&columns);
    if_alike(original, &by_rows(&found), ALIKE)
}

/// Makes all rows and columns of a matrix about equally large.
fn evened(matrix: &DMatrix<f32>) -> DMatrix<f32> {
    let mut even = matrix.clone();
    for _ in 0..ROUNDS {
        for mut row in even.row_iter_mut() {
            let size = row.norm();
            row /= if size > 0.0 { size } else { 1.0 };
        }
        for mut column in even.column_iter_mut() {
            let size = column.norm();
            column /= if size > 0.0 { size } else { 1.0 };
        }
    }
    even
}

/// Returns the rows with their elements sorted, less the mean of all such rows.
fn sorted(matrix: &DMatrix<f32>) -> DMatrix<f32> {
    let rows = matrix.row_iter().map(|row| {
        let mut values: Vec<f32> = row.iter().copied().collect();
        values.sort_by(f32::total_cmp);
        RowDVector::from_vec(values)
    });
    let mut sorted = DMatrix::from_rows(&rows.collect::<Vec<_>>());
    for mut column in sorted.column_iter_mut() {
        let mean = column.mean();
        column.add_scalar_mut(-mean);
    }
    sorted
}

/// Returns, for each row of `wanted`, the row of `found` with the same direction, or the opposite
/// one: those that are most alike first.
fn assign(wanted: &DMatrix<f32>, found: &DMatrix<f32>) -> Vec<usize> {
    let step = wanted.ncols().div_ceil(COMPARED).max(1);
    let some: Vec<usize> = (0..wanted.ncols()).step_by(step).collect();
    let unit = |matrix: &DMatrix<f32>| {
        let mut unit = matrix.select_columns(&some);
        for mut row in unit.row_iter_mut() {
            let size = row.norm();
            row /= if size > 0.0 { size } else { 1.0 };
        }
        unit
    };
    let n = wanted.nrows();
    let cosines = unit(wanted) * unit(found).transpose();
    let mut order: Vec<u32> = (0..(n * n) as u32).collect();
    let cosines = cosines.as_slice();
    order.sort_unstable_by(|a, b| {
        let size = |at: u32| cosines[at as usize].abs();
        size(*b).total_cmp(&size(*a))
    });
    let (mut rows, mut is_used) = (vec![None; n], vec![false; n]);
    for at in order {
        let (row, other) = (at as usize % n, at as usize / n);
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
    let (wanted_turned, found_turned) = (wanted.transpose(), found.transpose());
    for (wanted, found, is_turned) in [
        (wanted, found, false),
        (&wanted_turned, &found_turned, true),
    ] {
        let (long, side) = wanted.shape();
        let heads = HEADS.into_iter().chain([side]);
        let heads = heads.filter(|head| side.is_multiple_of(*head) && *head <= long.min(MAX_HEAD));
        let alike = heads.map(|head| (head, products_alike(wanted, found, head)));
        let alike: Vec<(usize, f64)> = alike.collect();
        let most = alike.iter().map(|of| of.1).fold(ALIKE, f64::max);
        // Larger blocks that contain the true ones are as much alike.
        let Some((head, _)) = alike.iter().find(|of| of.1 > most - SLACK) else {
            continue;
        };
        let back = |at: usize, head: usize| {
            let (wanted, found) = (wanted.columns(at, head), found.columns(at, head));
            turn_back(&wanted.into_owned(), &found.into_owned())
        };
        let mut turned = found.clone();
        for at in (0..side).step_by(*head) {
            turned.columns_mut(at, *head).copy_from(&back(at, *head));
        }
        let turned = if is_turned {
            turned.transpose()
        } else {
            turned
        };
        if let Some(values) = if_alike(original, &turned, ALIKE) {
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
fn turn_back(wanted: &DMatrix<f32>, found: &DMatrix<f32>) -> DMatrix<f32> {
    let product = (found.transpose() * wanted).cast::<f64>();
    if !product.iter().all(|value| value.is_finite()) {
        return found.clone();
    }
    let max_steps = MAX_STEPS * product.nrows();
    match product.try_svd(true, true, f64::EPSILON, max_steps) {
        Some(nalgebra::SVD {
            u: Some(u),
            v_t: Some(v_t),
            ..
        }) => found * (u * v_t).cast::<f32>(),
        _ => found.clone(),
    }
}
