//! Layers that rows would show whatever noise is added: what can be changed, and what is refused.

use chacha20::ChaCha20Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::cores::on_all_cores;
use crate::error::{Error, Result};

/// Rounding of a sum of classes, as a share of the largest weight. The decoder takes away the mean
/// of logits, and with it what rounding left of the sum.
const NOTHING: f64 = 1e-5;

/// By how many times the largest class may be larger than the smallest one.
const WIDEST: f64 = 4.0;

/// Classes depend on each other if the least of their singular values is less than so much of the
/// largest.
const DEPENDENT: f64 = 1e-2;

/// Rows with this cosine are the same up to a factor.
const SAME: f64 = 1.0 - 1e-6;

/// Whether the rows of `matrix`, `[K, columns]`, sum up to nothing but rounding. Softmax regression
/// gives such layers. `widths` are the steps of the values' grid: rounding to it moved each value
/// by half a step at most.
pub(super) fn is_centred(matrix: &[f64], widths: &[f64], columns: usize) -> bool {
    let largest = matrix
        .iter()
        .fold(0.0, |most: f64, value| most.max(value.abs()));
    let mut sums = vec![(0.0, NOTHING * largest); columns];
    let rows = matrix.chunks_exact(columns.max(1));
    for (row, widths) in rows.zip(widths.chunks_exact(columns.max(1))) {
        for ((sum, rounding), (value, width)) in sums.iter_mut().zip(row.iter().zip(widths)) {
            *sum += value;
            *rounding += width / 2.0;
        }
    }
    sums.iter().all(|(sum, rounding)| sum.abs() < *rounding)
}

/// Adds one random row to all: normal, with the variance of the mean of independent classes.
pub(super) fn move_from_centre(matrix: &mut [f64], columns: usize, rng: &mut ChaCha20Rng) {
    let classes = (matrix.len() / columns.max(1)) as f64;
    let mut squares = vec![0.0; columns];
    for row in matrix.chunks_exact(columns.max(1)) {
        for (square, value) in squares.iter_mut().zip(row) {
            *square += value * value;
        }
    }
    let of_mean = 1.0 / (classes * (classes - 1.0).max(1.0));
    let mut draw = |square: &f64| {
        let normal: f64 = StandardNormal.sample(&mut *rng);
        (square * of_mean).sqrt() * normal
    };
    let added: Vec<f64> = squares.iter().map(&mut draw).collect();
    for row in matrix.chunks_exact_mut(columns.max(1)) {
        for (value, added) in row.iter_mut().zip(&added) {
            *value += added;
        }
    }
}

/// Refuses classes that rows show however they are split; `sizes` are those of the classes in
/// columns of the same scale.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn check(matrix: &[f64], columns: usize, sizes: &[f64]) -> Result<()> {
    let refused = |why: String| Err(Error::Usage(format!("the rows would show classes: {why}")));
    let of_size = || sizes.iter().enumerate();
    let largest = of_size().max_by(|a, b| a.1.total_cmp(b.1));
    let smallest = of_size().min_by(|a, b| a.1.total_cmp(b.1));
    if let (Some((one, largest)), Some((other, smallest))) = (largest, smallest)
        && (largest / smallest > WIDEST || *smallest <= 0.0)
    {
        return refused(format!(
            "weights of class {one} are {:.1} times as large as those of class {other}; {WIDEST} \
             times stand out",
            largest / smallest
        ));
    }
    let rows: Vec<&[f64]> = matrix.chunks_exact(columns.max(1)).collect();
    let norms: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt()).collect();
    let same = on_all_cores(rows.len(), |y| {
        let (row, norm) = (rows.get(y).copied().unwrap_or_default(), norms.get(y));
        let norm = norm.copied().unwrap_or_default();
        let mut others = rows.iter().zip(&norms).enumerate().skip(y + 1);
        let is_same = |(_, (other, of_other)): &(usize, (&&[f64], &f64))| {
            dot(row, other).abs() > SAME * norm * **of_other
        };
        Ok(others.find(is_same).map(|(other, _)| (y, other)))
    })?;
    match same.into_iter().flatten().next() {
        Some((one, other)) => refused(format!(
            "weights of classes {one} and {other} are the same, up to a factor"
        )),
        None => Ok(()),
    }
}

/// Refuses classes of which one follows from others: rows then have a null vector, which is made of
/// weights. `spectrum` are the singular values of the classes in columns of the same scale.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn check_spectrum(spectrum: &[f64]) -> Result<()> {
    let most = spectrum.iter().copied().fold(0.0, f64::max);
    if spectrum.iter().any(|value| *value < DEPENDENT * most) {
        let text = "the rows would show classes: weights of classes depend on each other, so that a \
                    sum of some is next to nothing. If that is the sum of all, subtract the mean of \
                    the classes' weights and biases from each class: Softmax and ArgMax give the same";
        return Err(Error::Usage(text.into()));
    }
    Ok(())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
