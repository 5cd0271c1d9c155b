//! The differences between a tensor and its copy, whose elements are in the same places.
//!
//! The copy may have other scales and zero points, by row, column or group. Each way to undo them is
//! tried; the best is the one that would show a mark most clearly. None depends on the secret.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::weights::Original;

/// Elements that differ by more deviations count as this many.
const CLIP: f64 = 4.0;

/// The deviation of a normal number over the mean of its size.
const DEVIATION: f64 = 1.2533;

/// Rounds of clipping, and of fitting scales of rows and columns in turns.
const ROUNDS: usize = 2;
const TURNS: usize = 4;

/// Sides of groups that quantisers give a scale of their own.
const GROUPS: [usize; 5] = [16, 32, 64, 128, 256];

/// The least side of a matrix for deviations of its columns and of its rows.
const MIN_ROWS: usize = 16;
const MIN_COLUMNS: usize = 4;

/// The fewest elements from which scales and offsets are fitted.
const MIN_POINTS: f64 = 8.0;

/// Deviations of rows and columns are taken for that of a quiet one with the weight of so many
/// elements.
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
    /// The elements that count.
    n: f64,
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
    let mut best = of.differences(of.values(false), 0);
    let mut fitted = of.weighed(best.clone());
    if fitted.is_clear() {
        return fitted;
    }
    let has_zeros = copy.values.contains(&0.0);
    for keeps_zeros in [false, true].into_iter().take(1 + usize::from(has_zeros)) {
        for way in of.ways() {
            let (mut values, mut n_fitted) = (of.values(keeps_zeros), 0);
            for (turn, cells) in way.iter().enumerate() {
                let n_cells;
                (values, n_cells) = of.lines(values, cells);
                // Later turns fit the same scales again.
                n_fitted += if turn < 2 { 2 * n_cells } else { 0 };
            }
            let different = of.differences(values, n_fitted);
            let found = of.weighed(different.clone());
            if found.quality > fitted.quality {
                (best, fitted) = (different, found);
            }
        }
    }
    if !fitted.is_clear()
        && let Some(of_rank) = of.of_rank(&best)
    {
        let found = of.weighed(of_rank);
        if found.quality > BETTER * fitted.quality {
            fitted = found;
        }
    }
    fitted
}

/// The differences, `NaN` for elements that are left out.
#[derive(Clone)]
struct Different {
    r: Vec<f32>,
    /// Numbers that were fitted to the original.
    n_fitted: f64,
}

impl Fitted {
    fn is_clear(&self) -> bool {
        self.n > 0.0 && self.quality >= CLEAR * self.n
    }
}

struct Fit<'o> {
    original: &'o Original,
    copy: &'o Placed,
    strength: f64,
}

/// Parts of a matrix with a scale each, and an offset.
#[derive(Clone, Copy)]
struct Cells {
    height: usize,
    width: usize,
    has_offset: bool,
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
        let n = self.n;
        let spread = self.xx - self.x * self.x / n;
        let scale = match spread > 1e-12 * self.xx {
            true => (self.xy - self.x * self.y / n) / spread,
            false => 0.0,
        };
        (scale, (self.y - scale * self.x) / n)
    }
}

impl Fit<'_> {
    /// Returns the elements of the copy, with `NaN` for those that say nothing: zeros, unless they
    /// are kept.
    fn values(&self, keeps_zeros: bool) -> Vec<f32> {
        let values = self.copy.values.iter();
        let or_none = |c: &f32| {
            if *c != 0.0 || keeps_zeros {
                *c
            } else {
                f32::NAN
            }
        };
        values.map(or_none).collect()
    }

    fn differences(&self, mut values: Vec<f32>, n_fitted: usize) -> Different {
        for (c, w) in values.iter_mut().zip(&self.original.values) {
            *c = or_none(f64::from(*c) - f64::from(*w));
        }
        Different {
            r: values,
            n_fitted: n_fitted as f64,
        }
    }

    /// Returns the ways to undo scales and offsets, one kind of cells after the other.
    fn ways(&self) -> Vec<Vec<Cells>> {
        let (rows, columns) = (self.original.rows.max(1), self.original.columns.max(1));
        let cells = |height, width, has_offset| Cells {
            height,
            width,
            has_offset,
        };
        let each = |height, width| vec![cells(height, width, true)];
        let mut ways = vec![each(rows, columns), each(1, columns)];
        // Few rows cannot say what is of a column.
        if rows >= MIN_ROWS {
            ways.push(each(rows, 1));
            ways.push([cells(1, columns, false), cells(rows, 1, false)].repeat(TURNS));
        }
        if self.copy.is_integer {
            let divides = |side: usize, group: &usize| *group < side && side.is_multiple_of(*group);
            let groups = |side| GROUPS.into_iter().filter(move |group| divides(side, group));
            ways.extend(groups(columns).map(|group| each(1, group)));
            ways.extend(groups(rows).map(|group| each(group, 1)));
        }
        ways
    }

    /// Fits a scale and an offset for each cell. Returns how many cells there are, too.
    fn lines(&self, mut values: Vec<f32>, cells: &Cells) -> (Vec<f32>, usize) {
        let Cells {
            height,
            width,
            has_offset,
        } = *cells;
        let columns = self.original.columns.max(1);
        let across = columns.div_ceil(width);
        let mut lines = vec![Line::default(); self.original.rows.div_ceil(height) * across];
        let rows = self.original.values.chunks(columns);
        for (i, (c, w)) in values.chunks(columns).zip(rows).enumerate() {
            for (j, (c, w)) in c.iter().zip(w).enumerate() {
                if c.is_finite() && w.is_finite() {
                    lines[i / height * across + j / width].add(f64::from(*c), f64::from(*w));
                }
            }
        }
        let solved: Vec<(f64, f64)> = lines.iter().map(|line| line.solve(has_offset)).collect();
        for (i, row) in values.chunks_mut(columns).enumerate() {
            for (j, c) in row.iter_mut().enumerate() {
                let (scale, offset) = solved[i / height * across + j / width];
                *c = or_none(scale * f64::from(*c) + offset);
            }
        }
        (values, solved.len())
    }

    /// Looks only at what a copy of lower rank has of the original's: differences in its space of
    /// rows or in its space of columns.
    fn of_rank(&self, best: &Different) -> Option<Different> {
        let (rows, columns) = (self.original.rows, self.original.columns);
        let side = rows.min(columns);
        if !RANKED.contains(&side) || !self.copy.values.iter().all(|value| value.is_finite()) {
            return None;
        }
        // Stored by columns: a column here is a row of the tensor.
        let copy = DMatrix::from_column_slice(columns, rows, &self.copy.values).cast::<f64>();
        let copy = if rows <= columns {
            copy.transpose()
        } else {
            copy
        };
        let square = &copy * copy.transpose();
        let spectrum = SymmetricEigen::try_new(square, f64::EPSILON, MAX_STEPS * side)?;
        let mut order: Vec<usize> = (0..side).collect();
        order.sort_by(|a, b| spectrum.eigenvalues[*b].total_cmp(&spectrum.eigenvalues[*a]));
        let value = |k: usize| spectrum.eigenvalues[order[k]].max(0.0);
        let falls = (1..side).map(|k| (k, value(k - 1) / value(k).max(1e-13 * value(0))));
        let (rank, fall) = falls.max_by(|a, b| a.1.total_cmp(&b.1))?;
        if fall < FALL {
            return None;
        }
        let left = DMatrix::from_fn(side, rank, |i, k| spectrum.eigenvectors[(i, order[k])]);
        let mut right = copy.tr_mul(&left);
        for (k, mut column) in right.column_iter_mut().enumerate() {
            column /= value(k).sqrt().max(f64::MIN_POSITIVE);
        }
        let r = best
            .r
            .iter()
            .map(|r| if r.is_nan() { 0.0 } else { f64::from(*r) });
        let r = DMatrix::from_iterator(columns, rows, r);
        let r = if rows <= columns { r.transpose() } else { r };
        // r - (1 - P) r (1 - Q) = P r + (1 - P) r Q
        let inner = &left * (left.transpose() * &r);
        let outer = &r - &inner;
        let r = inner + (&outer * &right) * right.transpose();
        let r = if rows <= columns { r.transpose() } else { r };
        let kept = rank * (rows + columns - rank);
        let n = best.r.iter().filter(|r| !r.is_nan()).count();
        let pairs = r.iter().zip(&best.r);
        let r = pairs.map(|(r, before)| {
            if before.is_nan() {
                f32::NAN
            } else {
                or_none(*r)
            }
        });
        Some(Different {
            r: r.collect(),
            n_fitted: (1.0 - kept as f64 / (rows * columns) as f64) * n as f64,
        })
    }

    /// Clips and weights what differs.
    fn weighed(&self, Different { mut r, n_fitted }: Different) -> Fitted {
        let columns = self.original.columns.max(1);
        let mut sizes = Sizes::new(&r, columns);
        for _ in 0..ROUNDS {
            for (row, r) in sizes.rows.iter().zip(r.chunks_exact_mut(columns)) {
                for (r, column) in r.iter_mut().zip(&sizes.columns) {
                    let most = (CLIP * row * column) as f32;
                    // `NaN` stays.
                    *r = r.clamp(-most, most);
                }
            }
            sizes = Sizes::new(&r, columns);
        }
        let (mut n, mut signal, mut square, mut least) = (0.0, 0.0, 0.0, 0.0);
        for (i, (row, r)) in sizes
            .rows
            .iter()
            .zip(r.chunks_exact_mut(columns))
            .enumerate()
        {
            let strengths = self.original.strength.row(i, 0);
            for ((r, s), column) in r.iter_mut().zip(strengths).zip(&sizes.columns) {
                let s = self.strength * f64::from(s);
                // What differs less than a mark would is no marked copy, and must not count for more.
                let variance = (row * column).powi(2).max(s * s / 4.0);
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
        Fitted {
            r,
            n,
            quality: if quality.is_finite() { quality } else { 0.0 },
        }
    }
}

/// Returns a number in 32 bits, or `NaN` if it is not finite there.
fn or_none(number: f64) -> f32 {
    let number = number as f32;
    if number.is_finite() { number } else { f32::NAN }
}

/// The deviations of what differs, as a product of one for the row and one for the column.
struct Sizes {
    rows: Vec<f64>,
    columns: Vec<f64>,
}

impl Sizes {
    fn new(r: &[f32], columns: usize) -> Sizes {
        let n_rows = r.len() / columns;
        let mut of_rows = vec![(0.0, 0.0); n_rows];
        let mut of_columns = vec![(0.0, 0.0); columns];
        for (row, r) in of_rows.iter_mut().zip(r.chunks_exact(columns)) {
            for (column, r) in of_columns.iter_mut().zip(r) {
                if !r.is_nan() {
                    let size = f64::from(r.abs());
                    *row = (row.0 + 1.0, row.1 + size);
                    *column = (column.0 + 1.0, column.1 + size);
                }
            }
        }
        let n: f64 = of_rows.iter().map(|row| row.0).sum();
        let mean = of_rows.iter().map(|row| row.1).sum::<f64>() / n.max(1.0);
        let means = |sums: Vec<(f64, f64)>, counts: bool| -> Vec<f64> {
            let counted = sums.iter().filter(|sum| sum.0 > 0.0);
            let mut sizes: Vec<f64> = counted.map(|(n, sum)| sum / n).collect();
            sizes.sort_by(f64::total_cmp);
            let quiet = sizes.get(sizes.len() / 4).copied().unwrap_or(0.0);
            let mean_of = |(n, sum): (f64, f64)| match counts {
                true => (sum + PRIOR * quiet) / (n + PRIOR),
                false => mean,
            };
            sums.into_iter().map(mean_of).collect()
        };
        let mut rows = means(of_rows, columns >= MIN_COLUMNS);
        let columns = means(of_columns, n_rows >= MIN_ROWS);
        let scale = if mean > 0.0 { DEVIATION / mean } else { 0.0 };
        rows.iter_mut().for_each(|row| *row *= scale);
        Sizes { rows, columns }
    }
}
