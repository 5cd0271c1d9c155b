//! The noise in shares: what of them is no class, but looks like classes.
//!
//! A row of noise has the scale of weights in each column, and the rows together have the
//! correlations that the classes' rows have among each other. Independent noise would not do: the
//! rows of a layer that was trained are correlated, and so stand out among rows that are not.

use chacha20::ChaCha20Rng;
use nalgebra::DMatrix;
use onnxseal_store::parallel;
use rand_distr::{ChiSquared, Distribution as _, StandardNormal};

use crate::draw::{shuffle, stream};
use crate::error::{Error, Result};

/// Classes that noise is mixed of at a time, at most.
const PART: usize = 64;

/// A column whose square is so many times the others' is taken for one of its own kind, as biases
/// are.
const OF_ITS_OWN: f64 = 16.0;

/// What rows have in common is much if its square is so many times what chance gives.
const MUCH_IN_COMMON: f64 = 3.0;

/// The most and the least by which a scale is drawn off, squared.
const FARTHEST: f64 = 16.0;

/// Streams of this part begin here.
const STREAMS: u64 = 1 << 40;

/// The layer as noise sees it.
pub(super) struct Layer<'a> {
    /// Its classes, `[K, columns]`.
    matrix: &'a [f64],
    /// The scale of each column's noise.
    scales: Vec<f64>,
    /// What all rows have in common, drawn anew.
    common: Vec<f64>,
}

impl<'a> Layer<'a> {
    /// That of `matrix`, `[K, columns]`.
    pub(super) fn of(matrix: &'a [f64], columns: usize, seed: &[u8; 32]) -> Layer<'a> {
        let mut rng = stream(seed, STREAMS);
        let classes = (matrix.len() / columns.max(1)).max(1);
        let of_column = Columns::of(matrix, columns);
        let scales = scales(&of_column.squares, of_column.freedom, &mut rng);
        let common = drawn(&of_column.common, &scales, classes, &mut rng);
        Layer {
            matrix,
            scales,
            common,
        }
    }

    /// A class without what is common, each column by its scale.
    fn class(&self, y: usize) -> impl Iterator<Item = f64> {
        let columns = self.scales.len();
        let row = self.matrix.get(y * columns..(y + 1) * columns);
        let of_column = self.scales.iter().zip(&self.common);
        let row = row.unwrap_or_default().iter().zip(of_column);
        row.map(|(value, (scale, common))| {
            if *scale > 0.0 {
                (value - common) / scale
            } else {
                0.0
            }
        })
    }

    /// The size of each class.
    pub(super) fn sizes(&self) -> Vec<f64> {
        let n_classes = self.matrix.len() / self.scales.len().max(1);
        let size = |y| self.class(y).map(|value| value * value).sum::<f64>().sqrt();
        (0..n_classes).map(size).collect()
    }

    /// The singular values of the classes.
    pub(super) fn spectrum(&self) -> Vec<f64> {
        let columns = self.scales.len();
        let n_classes = self.matrix.len() / columns.max(1);
        let values = (0..n_classes).flat_map(|y| self.class(y));
        let classes = DMatrix::from_row_iterator(n_classes, columns, values);
        // Of a matrix that is as high as wide, which takes less time.
        let small = classes.transpose().qr().r();
        small.singular_values().iter().copied().collect()
    }

    /// The noise of each class, `[K, each, columns]`.
    ///
    /// Many classes are dealt with in parts, each like a layer of its own.
    ///
    /// # Errors
    /// [`Error::Usage`] where the noise of a part cannot be computed.
    pub(super) fn noise(&self, each: usize, seed: &[u8; 32]) -> Result<Vec<f64>> {
        let columns = self.scales.len().max(1);
        let of_class = (each * columns).max(1);
        let mut noise = vec![0.0; self.matrix.len() / columns * each * columns];
        let mut classes: Vec<(usize, &mut [f64])> =
            noise.chunks_exact_mut(of_class).enumerate().collect();
        shuffle(&mut classes, &mut stream(seed, STREAMS + 1));
        let n_parts = classes.len().div_ceil(PART).max(1);
        let of_part = classes.len().div_ceil(n_parts).max(1);
        let jobs = classes.chunks_mut(of_part).zip(2..);
        let work = |(): &mut (), (part, number): (&mut [(usize, &mut [f64])], u64)| {
            self.part(part, each, &mut stream(seed, STREAMS + number))
        };
        parallel::for_each(false, n_parts as u64, jobs, || (), work)?;
        Ok(noise)
    }

    /// Rows that are correlated among each other and with the classes as if all of them were drawn
    /// together: their Gram matrix then has the inverse Wishart distribution, given that of the
    /// classes (Dawid, *Some matrix-variate distribution theory*, 1981). Each row also has some of
    /// what is common.
    ///
    /// ```text
    /// B = c sqrt(K) T^-T (Z a / (c sqrt(K)) + Z')     a the K classes, c^2 the mean of its squares
    /// T lower triangular, T_ii^2 chi-square with l + 2 K + 1 - i degrees of freedom, i from 0, for
    /// l rows; all else normal (Bartlett's decomposition)
    /// ```
    fn part(
        &self,
        part: &mut [(usize, &mut [f64])],
        each: usize,
        rng: &mut ChaCha20Rng,
    ) -> Result<()> {
        let (classes, columns) = (part.len(), self.scales.len());
        let n = classes * each;
        let values = part.iter().flat_map(|(y, _)| self.class(*y));
        let classes_of = DMatrix::from_row_iterator(classes, columns, values);
        let live = self.scales.iter().filter(|scale| **scale > 0.0).count();
        let squares = classes_of.norm_squared() / live.max(1) as f64;
        let size = squares.sqrt();
        if size <= 0.0 {
            return Ok(());
        }
        let degrees = (n + 2 * classes + 1) as f64;
        let mut normal = |_, _| -> f64 { StandardNormal.sample(&mut *rng) };
        let mut triangle = DMatrix::from_fn(n, n, &mut normal);
        let mixed = DMatrix::from_fn(n, classes, &mut normal) * classes_of / size
            + DMatrix::from_fn(n, columns, &mut normal);
        for i in 0..n {
            let square = chi_squared(degrees - i as f64, rng);
            if let Some(place) = triangle.get_mut((i, i)) {
                *place = square.sqrt();
            }
        }
        // Does not read what lies above the diagonal.
        let solved = triangle.tr_solve_lower_triangular(&mixed);
        let noise = solved.ok_or_else(|| Error::Usage("no noise hides these weights".into()))?;
        let rows = part.iter_mut();
        let rows = rows.flat_map(|(_, rows)| rows.chunks_exact_mut(columns.max(1)));
        for (row, noise) in rows.zip(noise.row_iter()) {
            let share: f64 = StandardNormal.sample(&mut *rng);
            let columns = noise.iter().zip(&self.scales).zip(&self.common);
            for (value, ((noise, scale), common)) in row.iter_mut().zip(columns) {
                *value = noise * size * scale + share * common;
            }
        }
        Ok(())
    }
}

fn chi_squared(degrees: f64, rng: &mut ChaCha20Rng) -> f64 {
    ChiSquared::new(degrees).map_or(degrees, |chi| chi.sample(rng))
}

/// What is told of each column by its weights.
struct Columns {
    /// What the rows of all classes have in common; zeros where that is little beside their
    /// differences.
    common: Vec<f64>,
    /// The mean square of what differs.
    squares: Vec<f64>,
    /// How many independent values that is the mean of.
    freedom: f64,
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
            return Columns {
                common,
                squares,
                freedom: classes,
            };
        }
        squares.fill(0.0);
        for row in matrix.chunks_exact(columns.max(1)) {
            for ((square, common), value) in squares.iter_mut().zip(&common).zip(row) {
                *square += between * (value - common).powi(2) / classes;
            }
        }
        Columns {
            common,
            squares,
            freedom: (classes - 1.0).max(1.0),
        }
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

/// The scale of noise in each column, given the mean squares of the columns, of `freedom`
/// independent values each.
///
/// A column's own size would not do as the scale: all shares of a column then lie on a sphere where
/// classes are, and around it where they are noise. So scales are drawn, given what the columns
/// have in common: `tau^2` has an inverse chi-square distribution, whose two numbers are estimated
/// from all columns (Smyth, *Linear models and empirical Bayes methods*, 2004, sections 3 and 6.2).
fn scales(squares: &[f64], freedom: f64, rng: &mut ChaCha20Rng) -> Vec<f64> {
    let common = Common::of(squares, freedom);
    let mut draw =
        |degrees: f64| (chi_squared(degrees, rng) / degrees).clamp(1.0 / FARTHEST, FARTHEST);
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
