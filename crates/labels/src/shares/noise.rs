//! The noise in shares: what of them is no class, but looks like classes.
//!
//! A row of noise has the scale of weights in each column, and the rows together have the
//! correlations that the classes' rows have among each other. Independent noise would not do: the
//! answers of a layer that was trained with cross entropy sum up to nearly nothing, so that its
//! classes are where rows vary least.

use std::convert::Infallible;

use chacha20::ChaCha20Rng;
use nalgebra::DMatrix;
use onnxseal_store::parallel;
use rand_distr::{ChiSquared, Distribution as _, StandardNormal};

use crate::draw::{shuffle, stream};

/// Rows of noise that are made, and correlated, together.
const BLOCK: usize = 256;

/// Classes whose correlations are looked at, at most.
const MAX_CLASSES: usize = 512;

/// A column whose square is so many times the others' is taken for one of its own kind, as biases
/// are.
const OF_ITS_OWN: f64 = 16.0;

/// What rows have in common is much if its square is so many times what chance gives.
const MUCH_IN_COMMON: f64 = 3.0;

/// The most and the least by which a scale is drawn off, squared.
const FARTHEST: f64 = 16.0;

/// Streams of this part begin here.
const STREAMS: u64 = 1 << 40;

/// `n` rows of noise like the rows of `matrix`, `[K, columns]`.
///
/// They are in doubles, and the spectrum is that of `matrix` down to its last digits: where classes
/// sum up to nothing, the digits that are left show which rows do, unless those of noise are as
/// large.
pub(super) fn like(matrix: &[f64], columns: usize, seed: &[u8; 32], n: usize) -> Vec<f64> {
    let mut rng = stream(seed, STREAMS);
    let classes = (matrix.len() / columns.max(1)).max(1);
    let some = DMatrix::from_fn(classes.min(MAX_CLASSES), columns, |y, i| {
        let y = y * classes / classes.min(MAX_CLASSES);
        matrix.get(y * columns + i).copied().unwrap_or_default()
    });
    let column = Columns::of(matrix, columns);
    let own: Vec<f64> = column.squares.iter().map(|square| square.sqrt()).collect();
    let degrees = freedom(&scaled(&without(&some, &column.common), &own));
    let scales = scales(&column.squares, degrees, &mut rng);
    let common = drawn(&column.common, &scales, classes, &mut rng);
    let mut roots = spectrum(scaled(&without(&some, &common), &scales), n);
    shuffle(&mut roots, &mut rng);

    let mut noise = vec![0.0; n * columns];
    let mut rows: Vec<&mut [f64]> = noise.chunks_exact_mut(columns.max(1)).collect();
    shuffle(&mut rows, &mut rng);
    let jobs = rows.chunks_mut(BLOCK).zip(roots.chunks(BLOCK)).zip(1..);
    let work = |(): &mut (), ((rows, roots), number): Block<'_, '_>| {
        block(
            rows,
            roots,
            (&scales, &common),
            &mut stream(seed, STREAMS + number),
        );
        Ok::<(), Infallible>(())
    };
    let n_blocks = n.div_ceil(BLOCK) as u64;
    let Ok(()) = parallel::for_each(false, n_blocks, jobs, || (), work);
    noise
}

/// Rows, the roots of their eigenvalues, and the number of their block.
type Block<'a, 'b> = ((&'a mut [&'b mut [f64]], &'a [f64]), u64);

/// Rows whose correlations have the eigenvalues `roots^2`, turned at random, each with some of what
/// all have in common.
fn block(
    rows: &mut [&mut [f64]],
    roots: &[f64],
    (scales, common): (&[f64], &[f64]),
    rng: &mut ChaCha20Rng,
) {
    let n = rows.len();
    let mut normal = |_, _| -> f64 { StandardNormal.sample(&mut *rng) };
    let mut turned = DMatrix::from_fn(n, n, &mut normal).qr().q();
    for (mut column, root) in turned.column_iter_mut().zip(roots) {
        column.scale_mut(*root);
    }
    let noise = turned * DMatrix::from_fn(n, scales.len(), &mut normal);
    for (i, (row, noise)) in rows.iter_mut().zip(noise.row_iter()).enumerate() {
        let share = normal(i, 0);
        let columns = noise.iter().zip(scales).zip(common);
        for (value, ((noise, scale), common)) in row.iter_mut().zip(columns) {
            *value = noise * scale + share * common;
        }
    }
}

/// What is told of each column by its weights.
struct Columns {
    /// What the rows of all classes have in common; zeros where that is little beside their
    /// differences.
    common: Vec<f64>,
    /// The mean square of what differs.
    squares: Vec<f64>,
}

impl Columns {
    fn of(matrix: &[f64], columns: usize) -> Columns {
        let classes = (matrix.len() / columns.max(1)).max(1) as f64;
        let mut common = vec![0.0; columns];
        let mut squares = vec![0.0; columns];
        for row in matrix.chunks_exact(columns.max(1)) {
            for ((common, square), value) in common.iter_mut().zip(&mut squares).zip(row) {
                *common += value / classes;
                *square += value * value / classes;
            }
        }
        // Of independent rows, one in K of the squares is that of their mean.
        let of_common: f64 = common.iter().map(|common| common * common).sum();
        let of_all: f64 = squares.iter().sum();
        let between = classes / (classes - 1.0).max(1.0);
        if classes * of_common < MUCH_IN_COMMON * between * (of_all - of_common) {
            common.fill(0.0);
            return Columns { common, squares };
        }
        squares.fill(0.0);
        for row in matrix.chunks_exact(columns.max(1)) {
            for ((square, common), value) in squares.iter_mut().zip(&common).zip(row) {
                *square += between * (value - common).powi(2) / classes;
            }
        }
        Columns { common, squares }
    }
}

/// What rows of noise have in common: drawn from what the classes' `mean` tells of it, if it is
/// normal, too.
fn drawn(mean: &[f64], scales: &[f64], classes: usize, rng: &mut ChaCha20Rng) -> Vec<f64> {
    let of_mean = 1.0 / classes as f64;
    let ratios = mean.iter().zip(scales).filter(|(_, scale)| **scale > 0.0);
    let ratios: Vec<f64> = ratios.map(|(mean, scale)| (mean / scale).powi(2)).collect();
    let size = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64 - of_mean;
    let share = size.max(0.0) / (size.max(0.0) + of_mean);
    let mut one = |(mean, scale): (&f64, &f64)| {
        let normal: f64 = StandardNormal.sample(&mut *rng);
        share * mean + (share * of_mean).sqrt() * scale * normal
    };
    mean.iter().zip(scales).map(&mut one).collect()
}

/// `rows` without a row that all have in common.
fn without(rows: &DMatrix<f64>, common: &[f64]) -> DMatrix<f64> {
    let mut rows = rows.clone();
    for (mut column, common) in rows.column_iter_mut().zip(common) {
        column.add_scalar_mut(-common);
    }
    rows
}

/// Rows with each column divided by its scale, and by the root of how many columns are not 0.
fn scaled(rows: &DMatrix<f64>, scales: &[f64]) -> DMatrix<f64> {
    let n = scales.iter().filter(|scale| **scale > 0.0).count().max(1);
    let root = (n as f64).sqrt();
    let mut rows = rows.clone();
    for (mut column, scale) in rows.column_iter_mut().zip(scales) {
        column.scale_mut(if *scale > 0.0 {
            1.0 / (scale * root)
        } else {
            0.0
        });
    }
    rows
}

/// The roots of the eigenvalues of rows' correlations, again and again until there are `n`.
fn spectrum(rows: DMatrix<f64>, n: usize) -> Vec<f64> {
    let classes = rows.nrows();
    // Of a matrix that is as high as wide, which takes less time.
    let small = if rows.ncols() > classes {
        rows.transpose().qr().r()
    } else {
        rows
    };
    let mut roots: Vec<f64> = small.singular_values().iter().copied().collect();
    // There are fewer columns than classes.
    roots.resize(classes.max(1), 0.0);
    roots.into_iter().cycle().take(n).collect()
}

/// How many independent values a column has.
fn freedom(rows: &DMatrix<f64>) -> f64 {
    let correlations = rows * rows.transpose();
    let squares = correlations.norm_squared();
    if squares > 0.0 {
        (correlations.trace().powi(2) / squares).max(1.0)
    } else {
        1.0
    }
}

/// The scale of noise in each column, given the mean squares of the columns, of `freedom`
/// independent values each.
///
/// A column's own size would not do as the scale: all shares of a column then lie on a sphere where
/// classes are, and around it where they are noise. So scales are drawn, given what the columns
/// have in common: `tau^2` has an inverse chi-square distribution, whose two numbers are estimated
/// from all columns (Smyth, *Linear models and empirical Bayes methods*, 2004, sections 3 and 6.2).
fn scales(squares: &[f64], freedom: f64, rng: &mut ChaCha20Rng) -> Vec<f64> {
    let common = Common::of(squares, freedom);
    let mut draw = |degrees: f64| {
        let chi = ChiSquared::new(degrees).map_or(degrees, |chi| chi.sample(&mut *rng));
        (chi / degrees).clamp(1.0 / FARTHEST, FARTHEST)
    };
    let of_column = |square: &f64| {
        if *square <= 0.0 {
            return 0.0;
        }
        let drawn = match common.degrees {
            Some(degrees) => {
                let all = degrees + freedom;
                (degrees * common.square + freedom * square) / all / draw(all)
            }
            None if *square <= OF_ITS_OWN * common.square => common.square,
            None => square / draw(freedom),
        };
        drawn.sqrt()
    };
    squares.iter().map(of_column).collect()
}

/// What the columns' sizes have in common.
struct Common {
    /// The square of the typical size.
    square: f64,
    /// Degrees of freedom that this counts for beside a column's own; `None` if columns differ by
    /// chance alone.
    degrees: Option<f64>,
}

impl Common {
    fn of(squares: &[f64], freedom: f64) -> Common {
        let offset = digamma(freedom / 2.0) - (freedom / 2.0).ln();
        let logarithms = squares.iter().filter(|square| **square > 0.0);
        let logarithms: Vec<f64> = logarithms.map(|square| square.ln() - offset).collect();
        let n = logarithms.len() as f64;
        let mean = logarithms.iter().sum::<f64>() / n.max(1.0);
        let spread: f64 = logarithms.iter().map(|value| (value - mean).powi(2)).sum();
        let more = spread / (n - 1.0).max(1.0) - trigamma(freedom / 2.0);
        if more <= 0.0 || n < 2.0 {
            return Common {
                square: mean.exp(),
                degrees: None,
            };
        }
        let (mut low, mut high) = (1e-3_f64, 1e6_f64);
        for _ in 0..60 {
            let middle = (low * high).sqrt();
            if trigamma(middle) > more {
                low = middle;
            } else {
                high = middle;
            }
        }
        Common {
            square: (mean + digamma(low) - low.ln()).exp(),
            degrees: Some(2.0 * low),
        }
    }
}

/// The derivative of ln Gamma (NIST DLMF, 5.5.2 and 5.11.2).
fn digamma(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    while x < 8.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let f = 1.0 / (x * x);
    sum + x.ln() - 0.5 / x - f * (1.0 / 12.0 - f * (1.0 / 120.0 - f / 252.0))
}

/// The derivative of [`digamma`].
fn trigamma(x: f64) -> f64 {
    let (mut x, mut sum) = (x, 0.0);
    while x < 8.0 {
        sum += 1.0 / (x * x);
        x += 1.0;
    }
    let f = 1.0 / (x * x);
    sum + 1.0 / x + f / 2.0 + f / x * (1.0 / 6.0 - f * (1.0 / 30.0 - f / 42.0))
}
