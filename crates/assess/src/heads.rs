//! Linear heads on features, fitted to labelled samples: ridge regression, and multinomial logistic
//! regression.
//!
//! Cross-validation on the labelled samples chooses penalties, and rates heads without other
//! samples.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use crate::error::{Error, Result};

/// The penalties that ridge regression tries.
const LAMBDAS: [f64; 7] = [1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4];

/// The penalties that logistic regression tries; each starts from the result of the larger one
/// before it.
const LOGISTIC_LAMBDAS: [f64; 4] = [1e3, 1e2, 1e1, 1.0];

/// Steps of logistic regression for each penalty.
const STEPS: usize = 30;

/// The most principal directions that logistic regression uses.
const MAX_DIRECTIONS: usize = 256;

/// The number of folds: each is predicted from the others.
const N_FOLDS: usize = 5;

/// The principal directions of the standardised features of labelled samples, shared by all heads on
/// them.
pub(crate) struct Basis {
    mean: DVector<f64>,
    /// `[features, directions]`, which map features without their mean.
    directions: DMatrix<f64>,
    /// The samples along the directions, `[samples, directions]`: `z'z` is diagonal.
    z: DMatrix<f64>,
    /// The diagonal of `z'z`, the largest first.
    squares: DVector<f64>,
}

/// A fitted head: a linear map of features, with a constant.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[features, targets]`.
    weights: DMatrix<f64>,
    constant: DVector<f64>,
    /// How many samples cross-validation gets right, and the penalty that it chose.
    pub(crate) chosen: (usize, f64),
}

/// Returns the best penalty, the first among equals. Each comes with the number of right samples,
/// and a score to break ties.
fn best(tried: impl Iterator<Item = (usize, f64, f64)>) -> (usize, f64) {
    let best = tried.reduce(|best, next| {
        if (next.0, next.1) > (best.0, best.1) {
            next
        } else {
            best
        }
    });
    best.map_or((0, 1.0), |(n_right, _, lambda)| (n_right, lambda))
}

impl Basis {
    /// Computes the basis of `features`, one row per sample.
    pub(crate) fn of<R: AsRef<[f32]>>(features: &[R]) -> Result<Basis> {
        let n = features.len();
        let d = features.first().map_or(0, |row| row.as_ref().len());
        if n < 2 || d == 0 {
            return Err(Error::Usage(format!(
                "{n} samples with {d} features are too few for a regression"
            )));
        }
        let feature = |i: usize, j| finite(features[i].as_ref().get(j).copied().unwrap_or(0.0));
        let mut x = DMatrix::from_fn(n, d, feature);
        let (mut mean, mut scale) = (Vec::with_capacity(d), Vec::with_capacity(d));
        for mut column in x.column_iter_mut() {
            let (m, deviation) = (column.mean(), column.variance().sqrt());
            let varies = deviation > 1e-8 * (1.0 + m.abs());
            let s = if varies { 1.0 / deviation } else { 0.0 };
            column.apply(|value| *value = (*value - m) * s);
            mean.push(m);
            scale.push(s);
        }
        // Use the smaller of two matrices, whose nonzero eigenvalues are equal.
        let is_primal = d <= n;
        let gram = if is_primal {
            x.tr_mul(&x)
        } else {
            &x * x.transpose()
        };
        let eigen = SymmetricEigen::new(gram);
        let mut order: Vec<usize> = (0..n.min(d)).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
        let vectors = eigen.eigenvectors.select_columns(&order);
        let squares = eigen.eigenvalues.select_rows(&order).map(|s| s.max(0.0));
        let directions = if is_primal {
            vectors
        } else {
            // A direction is `x'v / sqrt(square)`; directions of length 0 are dropped.
            let mut directions = x.tr_mul(&vectors);
            let least = 1e-12 * squares.max();
            for (mut column, square) in directions.column_iter_mut().zip(&squares) {
                column *= if *square > least {
                    square.sqrt().recip()
                } else {
                    0.0
                };
            }
            directions
        };
        Ok(Basis {
            z: x * &directions,
            directions: by_rows(directions, &scale.into()),
            mean: mean.into(),
            squares,
        })
    }

    /// Makes the head with these `weights` along principal directions.
    fn linear(
        &self,
        weights: DMatrix<f64>,
        constant: DVector<f64>,
        chosen: (usize, f64),
    ) -> Linear {
        let weights = self.directions.columns(0, weights.nrows()) * weights;
        Linear {
            constant: constant - weights.tr_mul(&self.mean),
            weights,
            chosen,
        }
    }

    /// Fits ridge regression to `targets` `[n, k]`, by the penalty that gets the most samples' largest
    /// target right, and then the least squares.
    pub(crate) fn ridge(&self, targets: &DMatrix<f64>) -> Linear {
        let constant = targets.row_mean();
        let mut y = targets.clone();
        y.row_iter_mut().for_each(|mut row| row -= &constant);
        let z_y = self.z.tr_mul(&y);
        let chosen = best(LAMBDAS.into_iter().map(|lambda| {
            let (n_right, squares) = self.crossed(lambda, &z_y, &y, targets);
            (n_right, -squares, lambda)
        }));
        let weights = by_rows(z_y, &self.gains(chosen.1));
        self.linear(weights, constant.transpose(), chosen)
    }

    fn gains(&self, lambda: f64) -> DVector<f64> {
        self.squares.map(|square| 1.0 / (square + lambda))
    }

    /// Returns how many samples are right, and the sum of squares, when each fold is predicted from
    /// the others. `y` has the targets without their means.
    ///
    /// One eigendecomposition serves all penalties and folds: with `H = Z (Z'Z + lambda)^-1 Z'`,
    /// the residuals of a fold F that the other folds predict are `(1 - H_FF)^-1 (Y - HY)_F`.
    fn crossed(
        &self,
        lambda: f64,
        z_y: &DMatrix<f64>,
        y: &DMatrix<f64>,
        targets: &DMatrix<f64>,
    ) -> (usize, f64) {
        let (n, gains) = (y.nrows(), self.gains(lambda));
        let residuals = y - &self.z * by_rows(z_y.clone(), &gains);
        let (mut right, mut squares) = (0, 0.0);
        for fold in 0..N_FOLDS.min(n) {
            let rows: Vec<usize> = (fold..n).step_by(N_FOLDS.min(n)).collect();
            let z = self.z.select_rows(&rows);
            let h = &z * by_rows(z.transpose(), &gains);
            let system = DMatrix::identity(rows.len(), rows.len()) - h;
            let Some(left_out) = system.lu().solve(&residuals.select_rows(&rows)) else {
                return (0, f64::INFINITY);
            };
            squares += left_out.norm_squared();
            let wanted = targets.select_rows(&rows);
            let predicted = &wanted - left_out;
            for (predicted, wanted) in predicted.row_iter().zip(wanted.row_iter()) {
                let found = largest(predicted.iter().copied());
                right += usize::from(found == largest(wanted.iter().copied()));
            }
        }
        (right, squares)
    }

    /// Fits multinomial logistic regression to classes below `n_classes`, along the principal
    /// directions in which the features vary most.
    pub(crate) fn logistic(&self, classes: &[usize], n_classes: usize) -> Linear {
        let (n, directions) = (self.z.nrows(), self.squares.len().min(MAX_DIRECTIONS));
        let squares = self.squares.rows(0, directions).push(n as f64);
        let z = self.z.columns(0, directions);
        let task = Task {
            z: z.insert_column(directions, 1.0),
            y: of_classes(classes, n_classes),
        };
        let n_folds = N_FOLDS.min(n);
        let folds: Vec<(Task, Task)> = (0..n_folds).map(|fold| task.split(fold, n_folds)).collect();
        let nothing = DMatrix::zeros(directions + 1, n_classes);
        let mut found = vec![nothing.clone(); n_folds];
        let chosen = best(LOGISTIC_LAMBDAS.into_iter().map(|lambda| {
            let (mut right, mut likelihood) = (0, 0.0);
            for ((others, fold), weights) in folds.iter().zip(&mut found) {
                others.fit(lambda, &squares, weights);
                let shares = fold.shares(weights);
                for (shares, y) in shares.row_iter().zip(fold.y.row_iter()) {
                    let (class, label) = (shares.iter().copied(), y.iter().copied());
                    right += usize::from(largest(class) == largest(label));
                    likelihood += shares.dot(&y).max(1e-300).ln();
                }
            }
            (right, likelihood, lambda)
        }));
        // Fit all samples along the path of penalties that the folds took.
        let mut weights = nothing;
        for larger in LOGISTIC_LAMBDAS.into_iter().filter(|of| *of >= chosen.1) {
            task.fit(larger, &squares, &mut weights);
        }
        let constant = weights.row(directions).transpose();
        self.linear(weights.remove_row(directions), constant, chosen)
    }
}

/// Samples along principal directions, with a column of 1 for constants, and their classes: one row
/// per sample, with 1 in the column of its class.
struct Task {
    z: DMatrix<f64>,
    y: DMatrix<f64>,
}

impl Task {
    /// Returns the samples outside the fold, and those in it.
    fn split(&self, fold: usize, n_folds: usize) -> (Task, Task) {
        let of = |is_in: bool| {
            let rows = (0..self.z.nrows()).filter(|row| (row % n_folds == fold) == is_in);
            let rows: Vec<usize> = rows.collect();
            Task {
                z: self.z.select_rows(&rows),
                y: self.y.select_rows(&rows),
            }
        };
        (of(false), of(true))
    }

    /// Computes the share of each class for each sample.
    fn shares(&self, weights: &DMatrix<f64>) -> DMatrix<f64> {
        let mut shares = &self.z * weights;
        for mut row in shares.row_iter_mut() {
            let most = row.max();
            row.apply(|value| *value = (*value - most).exp());
            let sum = row.sum();
            row /= sum;
        }
        shares
    }

    /// Improves `weights` for the penalty `lambda / 2 * weights^2`, which leaves out constants. It
    /// takes accelerated steps over a bound of the second derivative: half of `z'z` for every class
    /// (Böhning, "Multinomial logistic regression algorithm", 1992). The `z'z` of all samples, the
    /// diagonal `squares`, bounds that of a part of them.
    fn fit(&self, lambda: f64, squares: &DVector<f64>, weights: &mut DMatrix<f64>) {
        let constant = squares.len() - 1;
        let penalty = |i: usize| if i < constant { lambda } else { 0.0 };
        let mut before = weights.clone();
        for i in 0..STEPS {
            let ahead = i as f64 / (i as f64 + 3.0);
            let moved = &*weights + (&*weights - &before) * ahead;
            let mut slope = self.z.tr_mul(&(&self.y - self.shares(&moved)));
            for (i, mut row) in slope.row_iter_mut().enumerate() {
                row -= moved.row(i) * penalty(i);
                row /= squares[i] / 2.0 + penalty(i);
            }
            before = std::mem::replace(weights, moved + slope);
        }
    }
}

impl Linear {
    /// Returns the slope of the first target by each feature.
    pub(crate) fn slopes(&self) -> impl Iterator<Item = f64> {
        self.weights.column_iter().take(1).flatten().copied()
    }

    /// Predicts the targets from the features of a sample.
    pub(crate) fn predict(&self, features: &[f32]) -> DVector<f64> {
        let feature = |i, _| finite(features.get(i).copied().unwrap_or(0.0));
        let features = DVector::from_fn(self.weights.nrows(), feature);
        self.weights.tr_mul(&features) + &self.constant
    }
}

/// Multiplies each row of a matrix by its factor.
fn by_rows(mut matrix: DMatrix<f64>, by: &DVector<f64>) -> DMatrix<f64> {
    for (mut row, by) in matrix.row_iter_mut().zip(by.iter()) {
        row *= *by;
    }
    matrix
}

/// Makes one row per sample, with 1 in the column of its class.
fn of_classes(classes: &[usize], n_classes: usize) -> DMatrix<f64> {
    DMatrix::from_fn(classes.len(), n_classes, |i, class| {
        f64::from(u8::from(classes[i] == class))
    })
}

/// Returns the index of the largest value, the first among equals.
pub(crate) fn largest(values: impl Iterator<Item = f64>) -> Option<usize> {
    let finite = values.enumerate().filter(|(_, value)| value.is_finite());
    let largest = finite.reduce(|best, next| if next.1 > best.1 { next } else { best });
    largest.map(|(i, _)| i)
}

/// Clamps a feature so that its square does not overflow.
fn finite(value: f32) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        f64::from(value).clamp(-1e9, 1e9)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ops::SubAssign as _;

    use super::*;
    use onnxseal_data::random::{gaussian, rng};

    fn data(n: usize, d: usize) -> (Vec<Vec<f32>>, DMatrix<f64>) {
        let mut random = rng(5, "ridge");
        let features: Vec<Vec<f32>> = (0..n)
            .map(|_| (0..d).map(|_| gaussian(&mut random)).collect())
            .collect();
        let targets = DMatrix::from_fn(n, 2, |i, j| {
            f64::from(features[i][j % d]) + 0.3 * f64::from(gaussian(&mut random))
        });
        (features, targets)
    }

    /// Standardises features and targets.
    fn standardised(features: &[Vec<f32>], targets: &DMatrix<f64>) -> (DMatrix<f64>, DMatrix<f64>) {
        let (n, d) = (features.len(), features[0].len());
        let mut x = DMatrix::from_fn(n, d, |i, j| f64::from(features[i][j]));
        for mut column in x.column_iter_mut() {
            let (m, s) = (column.mean(), column.variance().sqrt());
            column.apply(|v| *v = (*v - m) / s);
        }
        let mut y = targets.clone();
        for mut column in y.column_iter_mut() {
            let m = column.mean();
            column.add_scalar_mut(-m);
        }
        (x, y)
    }

    /// Solves `(X'X + lambda)^-1 X'Y` for the samples `rows` among standardised ones.
    fn closed_form(
        (x, y): &(DMatrix<f64>, DMatrix<f64>),
        lambda: f64,
        rows: &[usize],
    ) -> DMatrix<f64> {
        let (x, y, d) = (x.select_rows(rows), y.select_rows(rows), x.ncols());
        let gram = x.tr_mul(&x) + DMatrix::identity(d, d) * lambda;
        gram.lu().solve(&x.tr_mul(&y)).unwrap()
    }

    #[test]
    fn it_agrees_with_the_closed_form_in_both_forms() {
        for (n, d) in [(40, 6), (12, 30)] {
            let (features, targets) = data(n, d);
            let basis = Basis::of(&features).unwrap();
            let ridge = basis.ridge(&targets);
            let all: Vec<usize> = (0..n).collect();
            let want = closed_form(&standardised(&features, &targets), ridge.chosen.1, &all);
            let (x, _) = standardised(&features, &targets);
            let want = x * want;
            for (i, sample) in features.iter().enumerate() {
                let want = want.row(i) + targets.row_mean();
                let off = (ridge.predict(sample).transpose() - &want).norm();
                assert!(off < 1e-6 * want.norm(), "{n} {d}");
            }
        }
    }

    #[test]
    fn folds_are_predicted_by_the_others() {
        let (features, targets) = data(20, 4);
        // Compares the formula for one penalty with five fits that leave a fold out.
        let (n, lambda, mut squares) = (20, 1.0, 0.0);
        let all = standardised(&features, &targets);
        let (x, y) = &all;
        for fold in 0..5 {
            let others: Vec<usize> = (0..n).filter(|i| i % 5 != fold).collect();
            let weights = closed_form(&all, lambda, &others);
            for i in (0..n).filter(|i| i % 5 == fold) {
                squares += (y.row(i) - x.row(i) * &weights).norm_squared();
            }
        }
        let basis = Basis::of(&features).unwrap();
        let (_, got) = basis.crossed(lambda, &basis.z.tr_mul(y), y, &targets);
        assert!((got - squares).abs() < 1e-9 * squares, "{got} {squares}");
    }

    #[test]
    fn predictions_are_the_lines_that_were_fitted() {
        let features: Vec<Vec<f32>> = (0..50).map(|i| vec![i as f32, 7.0]).collect();
        let targets = DMatrix::from_fn(50, 1, |i, _| 3.0 * i as f64 - 2.0);
        let basis = Basis::of(&features).unwrap();
        let ridge = basis.ridge(&targets);
        assert!((ridge.predict(&[60.0, 9.0])[0] - 178.0).abs() < 0.1);
        assert!(ridge.predict(&[f32::NAN, 9.0])[0].is_finite());
        assert!(Basis::of::<Vec<f32>>(&[]).is_err());
    }

    /// Compares with gradient descent over the features until it converges, for three classes and
    /// for two.
    #[test]
    fn logistic_regression_is_what_slow_descent_finds() {
        for (n, d, k, least) in [(60, 4, 3, 40), (24, 40, 2, 13)] {
            let (features, targets) = data(n, d);
            let is_above = |i, j, least| usize::from(targets[(i, j)] > least);
            let class = |i| is_above(i, 0, 0.3) + if k == 3 { is_above(i, 1, 0.5) } else { 0 };
            let classes: Vec<usize> = (0..n).map(class).collect();
            let basis = Basis::of(&features).unwrap();
            let linear = basis.logistic(&classes, k);
            let (n_right, lambda) = linear.chosen;
            let task = Task {
                z: standardised(&features, &targets).0.insert_column(d, 1.0),
                y: of_classes(&classes, k),
            };
            let mut slow = DMatrix::zeros(d + 1, k);
            for _ in 0..20_000 {
                let mut slope = task.z.tr_mul(&(&task.y - task.shares(&slow)));
                slope.rows_mut(0, d).sub_assign(slow.rows(0, d) * lambda);
                slow += slope / (n * d) as f64;
            }
            let slow = task.shares(&slow);
            let mut logits = DMatrix::zeros(n, k);
            for (i, sample) in features.iter().enumerate() {
                logits.set_row(i, &linear.predict(sample).transpose());
            }
            let got = Task {
                z: logits,
                y: task.y,
            }
            .shares(&DMatrix::identity(k, k));
            let off = (got - slow).amax();
            assert!(off < 0.02, "{n} {d} {k}, penalty {lambda}: {off}");
            assert!(n_right >= least, "{n_right} of {n}");
        }
    }
}
