//! The differences between a tensor and its copy, whose elements are in the same places.
//!
//! The copy may have other scales and zero points, by row, column or group. Each way to undo them is
//! tried; the best is the one that would show a mark most clearly. None depends on the secret.

use nalgebra::DMatrix;

use crate::weights::Original;

/// Elements that differ by more deviations count as this many.
const CLIP: f64 = 4.0;

/// The deviation of a normal number over the mean of its size.
const DEVIATION: f64 = 1.2533;

/// Rounds of clipping, and of fitting scales of rows and columns in turns.
const ROUNDS: usize = 2;
const TURNS: usize = 4;

/// The least sides of a matrix whose columns, and whose rows, have scales and sizes of their own.
const MIN_ROWS: usize = 16;
const MIN_COLUMNS: usize = 4;

/// The fewest elements from which a scale and an offset are fitted.
const MIN_POINTS: f64 = 8.0;

/// Sizes of rows and columns are taken for that of a quiet one with the weight of so many elements.
const PRIOR: f64 = 8.0;

/// A copy is as it was if a mark would show this share of its most.
const CLEAR: f64 = 0.6;

/// Sides of matrices whose rank is looked at, and the least fall of the spectrum at its end.
const RANKED: std::ops::RangeInclusive<usize> = 8..=1024;
const FALL: f64 = 100.0;

/// Steps for each row after which a spectrum is given up.
const MAX_STEPS: usize = 64;

/// How much better a mark has to show in a part of a matrix.
const BETTER: f64 = 1.5;

/// The differences, weighted: where a mark is strong and other differences are small, it counts most.
pub struct Fitted {
    pub r: Vec<f32>,
    /// The z that a mark would have, squared.
    pub quality: f64,
    is_clear: bool,
}

/// A copy of a tensor, with its elements in the places of the original's.
pub struct Placed {
    pub values: Vec<f32>,
    pub is_integer: bool,
    /// Numbers that were fitted to place it.
    pub n_fitted: f64,
}

/// Compares a copy with the original.
pub fn residual(original: &Original, copy: &Placed, strength: f64) -> Fitted {
    let of = Fit {
        original,
        copy,
        strength,
    };
    let mut differences = of.differences(&of.values(false));
    let mut best = of.weighed(&differences, 0.0);
    if best.is_clear {
        return best;
    }
    for keeps_zeros in [false, true] {
        for way in of.ways() {
            let (mut values, mut n_fitted) = (of.values(keeps_zeros), 0);
            for (turn, cells) in way.iter().enumerate() {
                let n_cells = of.fit(&mut values, *cells, way.len() == 1);
                // Later turns fit the same scales again.
                n_fitted += if turn < 2 { 2 * n_cells } else { 0 };
            }
            let new = of.differences(&values);
            let fitted = of.weighed(&new, n_fitted as f64);
            if fitted.quality > best.quality {
                (differences, best) = (new, fitted);
            }
        }
    }
    if !best.is_clear
        && let Some((r, n_fitted)) = of.of_rank(&differences)
    {
        let fitted = of.weighed(&r, n_fitted);
        if fitted.quality > BETTER * best.quality {
            return fitted;
        }
    }
    best
}

struct Fit<'o> {
    original: &'o Original,
    copy: &'o Placed,
    strength: f64,
}

/// Sums for a straight line through points.
#[derive(Clone, Copy, Default)]
struct Line {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// Returns the scale and the offset, which are `NaN` if few points say what they are.
    fn solve(&self, has_offset: bool) -> (f64, f64) {
        if self.n < MIN_POINTS {
            return (f64::NAN, f64::NAN);
        }
        if !has_offset {
            return (self.xy / self.xx, 0.0);
        }
        let spread = self.xx - self.x * self.x / self.n;
        let scale = match spread > 1e-12 * self.xx {
            true => (self.xy - self.x * self.y / self.n) / spread,
            false => 0.0,
        };
        (scale, (self.y - scale * self.x) / self.n)
    }
}

impl Fit<'_> {
    /// Returns the elements of the copy, with `NaN` for those that say nothing: zeros, unless they
    /// are kept.
    fn values(&self, keeps_zeros: bool) -> Vec<f32> {
        let values = self.copy.values.iter().map(|c| match *c {
            c if c.is_finite() && (c != 0.0 || keeps_zeros) => c,
            _ => f32::NAN,
        });
        values.collect()
    }

    /// Returns what differs, `NaN` for elements that are left out.
    fn differences(&self, values: &[f32]) -> Vec<f32> {
        let pairs = values.iter().zip(&self.original.values);
        pairs.map(|(c, w)| c - w).collect()
    }

    /// Returns the ways to undo scales and offsets: for cells of so many rows and columns, one kind
    /// after the other. Only ways of one kind have offsets.
    fn ways(&self) -> Vec<Vec<(usize, usize)>> {
        let (rows, columns) = (self.original.rows, self.original.columns);
        let mut ways = vec![vec![(rows, columns)], vec![(1, columns)]];
        // Few rows cannot say what is of a column.
        if rows >= MIN_ROWS {
            ways.push(vec![(rows, 1)]);
            ways.push([(1, columns), (rows, 1)].repeat(TURNS));
        }
        if self.copy.is_integer {
            // Groups that quantisers give a scale of their own.
            for group in [16, 32, 64, 128, 256] {
                if group < columns && columns.is_multiple_of(group) {
                    ways.push(vec![(1, group)]);
                }
                if group < rows && rows.is_multiple_of(group) {
                    ways.push(vec![(group, 1)]);
                }
            }
        }
        ways
    }

    /// Fits a scale and, if there is one, an offset for each cell. Returns how many cells there are.
    fn fit(&self, values: &mut [f32], (height, width): (usize, usize), has_offset: bool) -> usize {
        let columns = self.original.columns;
        let across = columns.div_ceil(width);
        let cell = |i: usize| i / columns / height * across + i % columns / width;
        let mut lines = vec![Line::default(); self.original.rows.div_ceil(height) * across];
        for (i, (c, w)) in values.iter().zip(&self.original.values).enumerate() {
            if c.is_finite() && w.is_finite() {
                lines[cell(i)].add(f64::from(*c), f64::from(*w));
            }
        }
        let solved = lines.iter().map(|line| line.solve(has_offset));
        let solved: Vec<(f64, f64)> = solved.collect();
        for (i, c) in values.iter_mut().enumerate() {
            let (scale, offset) = solved[cell(i)];
            *c = (scale * f64::from(*c) + offset) as f32;
        }
        solved.len()
    }

    /// Looks only at what a copy of lower rank has of the original's: differences in its space of
    /// rows or in its space of columns. Returns how many elements are lost, too.
    fn of_rank(&self, differences: &[f32]) -> Option<(Vec<f32>, f64)> {
        let (rows, columns) = (self.original.rows, self.original.columns);
        let side = rows.min(columns);
        if !RANKED.contains(&side) || !self.copy.values.iter().all(|value| value.is_finite()) {
            return None;
        }
        // Stored by columns: a column here is a row of the tensor. The shorter side goes down.
        let turn = |matrix: DMatrix<f64>| match rows <= columns {
            true => matrix.transpose(),
            false => matrix,
        };
        let copy = DMatrix::from_column_slice(columns, rows, &self.copy.values).cast::<f64>();
        let copy = turn(copy);
        let square = &copy * copy.transpose();
        let svd = square.try_svd(true, false, f64::EPSILON, MAX_STEPS * side)?;
        let sizes = &svd.singular_values;
        let falls = (1..side).map(|k| (k, sizes[k - 1] / sizes[k].max(1e-13 * sizes[0])));
        let (rank, fall) = falls.max_by(|a, b| a.1.total_cmp(&b.1))?;
        if fall < FALL {
            return None;
        }
        let left = svd.u?.columns(0, rank).into_owned();
        let mut right = copy.tr_mul(&left);
        for (mut column, size) in right.column_iter_mut().zip(sizes) {
            column /= size.sqrt().max(f64::MIN_POSITIVE);
        }
        let counted = differences.iter().map(|r| match r.is_finite() {
            true => f64::from(*r),
            false => 0.0,
        });
        let r = turn(DMatrix::from_iterator(columns, rows, counted));
        // r - (1 - P) r (1 - Q) = P r + (1 - P) r Q
        let inner = &left * left.tr_mul(&r);
        let r = turn(&inner + ((r - &inner) * &right) * right.transpose());
        let pairs = r.iter().zip(differences);
        let kept = pairs.map(|(r, before)| {
            if before.is_finite() {
                *r as f32
            } else {
                f32::NAN
            }
        });
        let n = differences.iter().filter(|r| r.is_finite()).count();
        let lost = (rows - rank) * (columns - rank);
        let n_lost = lost as f64 / differences.len() as f64 * n as f64;
        Some((kept.collect(), n_lost))
    }

    /// Clips and weights what differs.
    fn weighed(&self, differences: &[f32], n_fitted: f64) -> Fitted {
        let columns = self.original.columns;
        let mut r = differences.to_vec();
        for _ in 0..ROUNDS {
            let size = sizes(&r, columns);
            for (i, r) in r.iter_mut().enumerate() {
                let most = (CLIP * size(i)) as f32;
                // `NaN` stays.
                *r = r.clamp(-most, most);
            }
        }
        let size = sizes(&r, columns);
        let (mut n, mut signal, mut square, mut least) = (0.0, 0.0, 0.0, 0.0);
        for (row, r) in r.chunks_mut(columns).enumerate() {
            let strengths = self.original.strength.row(row, 0);
            for (column, (r, s)) in r.iter_mut().zip(strengths).enumerate() {
                let s = self.strength * f64::from(s);
                // What differs less than a mark would is no marked copy, and must not count for more.
                let variance = size(row * columns + column).powi(2).max(s * s / 4.0);
                let weight = if variance > 0.0 { s / variance } else { 0.0 };
                if r.is_nan() || weight == 0.0 {
                    *r = 0.0;
                    continue;
                }
                let weighted = weight * f64::from(*r);
                *r = weighted as f32;
                n += 1.0;
                signal += weight * s;
                square += weighted * weighted;
                least += (weight * s).powi(2) / 4.0;
            }
        }
        let kept = 1.0 - (n_fitted + self.copy.n_fitted) / f64::max(n, 1.0);
        let quality = (signal * kept.max(0.0)).powi(2) / f64::max(square, least);
        let quality = if quality.is_finite() { quality } else { 0.0 };
        Fitted {
            r,
            quality,
            is_clear: n > 0.0 && quality >= CLEAR * n,
        }
    }
}

/// Returns the deviation of what differs at an element, as a product of one for its row and one for
/// its column.
fn sizes(r: &[f32], columns: usize) -> impl Fn(usize) -> f64 + use<> {
    let n_rows = r.len() / columns;
    let (mut of_rows, mut of_columns) = (vec![(0.0, 0.0); n_rows], vec![(0.0, 0.0); columns]);
    for (i, r) in r.iter().enumerate().filter(|(_, r)| r.is_finite()) {
        for sum in [&mut of_rows[i / columns], &mut of_columns[i % columns]] {
            *sum = (sum.0 + 1.0, sum.1 + f64::from(r.abs()));
        }
    }
    let n: f64 = of_rows.iter().map(|sum| sum.0).sum();
    let mean = of_rows.iter().map(|sum| sum.1).sum::<f64>() / n.max(1.0);
    let sizes = |sums: Vec<(f64, f64)>, are_long: bool| -> Vec<f64> {
        let means = sums.iter().map(|(n, sum)| sum / n);
        let mut means: Vec<f64> = means.filter(|mean| mean.is_finite()).collect();
        means.sort_by(f64::total_cmp);
        let quiet = means.get(means.len() / 4).copied().unwrap_or(0.0);
        let size = |(n, sum)| match are_long {
            true => (sum + PRIOR * quiet) / (n + PRIOR),
            false => mean,
        };
        sums.into_iter().map(size).collect()
    };
    let scale = if mean > 0.0 { DEVIATION / mean } else { 0.0 };
    let (of_rows, of_columns) = (
        sizes(of_rows, columns >= MIN_COLUMNS),
        sizes(of_columns, n_rows >= MIN_ROWS),
    );
    move |i| scale * of_rows[i / columns] * of_columns[i % columns]
}
