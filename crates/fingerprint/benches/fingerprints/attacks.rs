//! Attacks of those who know how marks are made, but not the secret.

use nalgebra::DMatrix;

use crate::basic::{deviation, normal};
use crate::model::Matrix;

/// Rounds each weight to the nearest of so many values, by k-means.
pub fn codebook(matrix: &mut Matrix, n: usize) {
    const ROUNDS: usize = 15;
    let mut sorted = matrix.values.clone();
    sorted.sort_by(f32::total_cmp);
    let quantile = |i: usize| sorted[(2 * i + 1) * sorted.len() / (2 * n)];
    let mut book: Vec<f32> = (0..n).map(quantile).collect();
    let nearest = |book: &[f32], value: f32| {
        let above = book
            .partition_point(|of| *of < value)
            .clamp(1, book.len() - 1);
        above - usize::from(value - book[above - 1] < book[above] - value)
    };
    for _ in 0..ROUNDS {
        let mut sums = vec![(0.0f64, 0.0f64); n];
        for value in &matrix.values {
            let sum = &mut sums[nearest(&book, *value)];
            *sum = (sum.0 + f64::from(*value), sum.1 + 1.0);
        }
        for (of, (sum, count)) in book.iter_mut().zip(sums) {
            *of = if count > 0.0 {
                (sum / count) as f32
            } else {
                *of
            };
        }
        book.sort_by(f32::total_cmp);
    }
    for value in &mut matrix.values {
        *value = book[nearest(&book, *value)];
    }
}

/// Rounds to 7 steps on each side of 0, and takes the error of each column into those after it, as
/// GPTQ does, for made-up inputs of which neighbours correlate.
pub fn with_feedback(matrix: &mut Matrix) {
    const STEPS: f32 = 7.0;
    const CORRELATION: f32 = 0.5;
    let columns = matrix.columns();
    for row in matrix.values.chunks_mut(columns) {
        let step = row.iter().fold(0.0f32, |most, value| most.max(value.abs())) / STEPS;
        if step == 0.0 {
            continue;
        }
        // The inverse of the correlations is a band: an error goes to the next column alone.
        for i in 0..columns {
            let rounded = (row[i] / step).round().clamp(-STEPS, STEPS) * step;
            let error = row[i] - rounded;
            row[i] = rounded;
            if let Some(next) = row.get_mut(i + 1) {
                *next += CORRELATION * error;
            }
        }
    }
}

/// Adds a product of two random matrices, of 10 % of the weights' size.
pub fn low_rank_added(matrix: &mut Matrix, rank: usize) {
    let (rows, columns) = (matrix.rows, matrix.columns());
    let a = DMatrix::from_vec(columns, rank, normal(columns * rank, 21));
    let b = DMatrix::from_vec(rank, rows, normal(rank * rows, 22));
    let added = a * b;
    let size = 0.1 * deviation(&matrix.values) / deviation(added.as_slice());
    for (value, add) in matrix.values.iter_mut().zip(added.as_slice()) {
        *value += size * add;
    }
}

/// Rounds to one digit before the point and three after it, in binary, as float8 does.
pub fn float8(matrix: &mut Matrix) {
    for value in &mut matrix.values {
        let step = (value.abs().log2().floor() - 3.0).exp2();
        if step > 0.0 {
            *value = (*value / step).round() * step;
        }
    }
}

/// Rounds to multiples of three times the mark.
pub fn snapped(matrix: &mut Matrix, strength: f32) {
    let columns = matrix.columns();
    for row in matrix.values.chunks_mut(columns) {
        let step = 3.0 * strength * deviation(row);
        if step > 0.0 {
            row.iter_mut()
                .for_each(|value| *value = (*value / step).round() * step);
        }
    }
}

/// The mean of the weights and others of their size.
pub fn merged(matrix: &mut Matrix, other: Option<&Matrix>) {
    let columns = matrix.columns();
    let size = deviation(&matrix.values);
    let mut noise = normal(matrix.values.len(), columns as u64 + 9);
    noise.iter_mut().for_each(|value| *value *= size);
    let other = other.map_or(&noise, |other| &other.values);
    for (value, other) in matrix.values.iter_mut().zip(other) {
        *value = (*value + other) / 2.0;
    }
}

/// Leaves out each fourth row, as who prunes neurons does.
pub fn fewer_rows(matrix: &mut Matrix) {
    let columns = matrix.columns();
    let rows = matrix.values.chunks(columns).enumerate();
    let kept: Vec<&[f32]> = rows
        .filter(|(i, _)| i % 4 != 3)
        .map(|(_, row)| row)
        .collect();
    (matrix.rows, matrix.values) = (kept.len(), kept.concat());
}

/// Halves each row and writes it twice: the layer after sums both.
pub fn doubled_rows(matrix: &mut Matrix) {
    let columns = matrix.columns();
    let halves = matrix.values.chunks(columns).flat_map(|row| [row, row]);
    let halves: Vec<f32> = halves.flatten().map(|value| value / 2.0).collect();
    (matrix.rows, matrix.values) = (2 * matrix.rows, halves);
}
