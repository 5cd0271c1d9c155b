//! Linear heads on features, fitted to labelled samples: ridge regression, and multinomial logistic
//! regression.
//!
//! Cross-validation on the labelled samples chooses penalties, and says how good a head is to
//! whoever has no others.

use std::cmp::Ordering;

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use crate::error::{Error, Result};

/// The penalties that ridge regression tries.
const LAMBDAS: [f64; 7] = [1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4];

/// The penalties that logistic regression tries: each starts from what the larger one before it
/// found.
const LOGISTIC_LAMBDAS: [f64; 4] = [1e3, 1e2, 1e1, 1.0];

/// Steps that logistic regression takes for each penalty.
const STEPS: usize = 30;

/// Principal directions that logistic regression looks at, at most.
const MAX_DIRECTIONS: usize = 256;

/// Parts of the samples that are predicted by the others.
const N_FOLDS: usize = 5;

/// By what a penalty is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Most samples whose largest target is predicted largest, then least squares.
    Class,
    /// Least squares.
    Squares,
}

/// Features of labelled samples, standardised, with their principal directions: what all heads on
/// them share.
pub(crate) struct Basis {
    mean: Vec<f64>,
    /// 1 / deviation; 0 for features that do not vary.
    scale: Vec<f64>,
    /// `[samples, features]`, standardised.
    x: DMatrix<f64>,
    /// `x` along its principal directions, `[samples, directions]`: `z'z` is diagonal.
    z: DMatrix<f64>,
    /// The diagonal of `z'z`.
    squares: DVector<f64>,
    /// Eigenvectors of `x'x`, or of `xx'` where features outnumber samples.
    vectors: DMatrix<f64>,
}

/// A linear map of standardised features, with its constant.
#[derive(Debug)]
pub(crate) struct Linear {
    mean: Vec<f64>,
    scale: Vec<f64>,
    /// `[features, targets]`.
    weights: DMatrix<f64>,
    constant: DVector<f64>,
    /// The penalty.
    #[cfg(test)]
    lambda: f64,
}

/// A head, and how many of the samples it was fitted to are right where others predict them.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) linear: Linear,
    pub(crate) n_right: usize,
}

impl Basis {
    /// The basis of `features`, one row a sample.
    ///
    /// # Errors
    /// [`Error::Usage`] where there are no samples or no features.
    pub(crate) fn of(features: &[Vec<f32>]) -> Result<Basis> {
        let n = features.len();
        let d = features.first().map_or(0, Vec::len);
        if n < 2 || d == 0 {
            return Err(Error::Usage(format!(
                "{n} samples with {d} features are too few for a regression"
            )));
        }
        let mut x = DMatrix::from_fn(n, d, |i, j| {
            finite(features[i].get(j).copied().unwrap_or(0.0))
        });
        let (mut mean, mut scale) = (Vec::with_capacity(d), Vec::with_capacity(d));
        for mut column in x.column_iter_mut() {
            let m = column.mean();
            let deviation = column.variance().sqrt();
            let s = if deviation > 1e-8 * (1.0 + m.abs()) {
                1.0 / deviation
            } else {
                0.0
            };
            column.apply(|value| *value = (*value - m) * s);
            mean.push(m);
            scale.push(s);
        }
        let is_primal = d <= n;
        let gram = if is_primal {
            x.tr_mul(&x)
        } else {
            &x * x.transpose()
        };
        let SymmetricEigen {
            eigenvectors: vectors,
            eigenvalues,
        } = SymmetricEigen::new(gram);
        let squares = eigenvalues.map(|square| square.max(0.0));
        let mut z = vectors.clone();
        if is_primal {
            z = &x * z;
        } else {
            for (mut column, square) in z.column_iter_mut().zip(squares.iter()) {
                column *= square.sqrt();
            }
        }
        Ok(Basis {
            mean,
            scale,
            x,
            z,
            squares,
            vectors,
        })
    }

    /// The map that has `weights` along principal directions.
    fn linear(
        &self,
        mut weights: DMatrix<f64>,
        constant: DVector<f64>,
        #[cfg_attr(not(test), expect(unused_variables))] lambda: f64,
    ) -> Linear {
        let is_primal = self.vectors.nrows() == self.x.ncols();
        if !is_primal {
            // A direction is `x'v / sqrt(square)`; along those of length 0 there is nothing.
            let least = 1e-12 * self.squares.max();
            for (mut row, square) in weights.row_iter_mut().zip(self.squares.iter()) {
                row *= if *square > least {
                    square.sqrt().recip()
                } else {
                    0.0
                };
            }
        }
        let along = &self.vectors * weights;
        Linear {
            mean: self.mean.clone(),
            scale: self.scale.clone(),
            weights: if is_primal {
                along
            } else {
                self.x.tr_mul(&along)
            },
            constant,
            #[cfg(test)]
            lambda,
        }
    }

    /// Ridge regression to `targets` `[n, k]`.
    ///
    /// One eigendecomposition serves all penalties and folds: with `H = Z (Z'Z + lambda)^-1 Z'`,
    /// the residuals of a fold F that the other folds predict are `(1 - H_FF)^-1 (Y - HY)_F`.
    ///
    /// # Errors
    /// [`Error::Usage`] where there are not as many targets as samples.
    pub(crate) fn ridge(&self, targets: &DMatrix<f64>, choice: Choice) -> Result<Fitted> {
        let n = self.x.nrows();
        if targets.nrows() != n {
            return Err(Error::Usage(format!(
                "{n} samples with {} targets are no regression",
                targets.nrows()
            )));
        }
        let constant = DVector::from_fn(targets.ncols(), |j, _| targets.column(j).mean());
        let mut y = targets.clone();
        for (mut column, mean) in y.column_iter_mut().zip(constant.iter()) {
            column.add_scalar_mut(-mean);
        }
        let gains = |lambda: f64| self.squares.map(|square| 1.0 / (square + lambda));
        let mut z_y = self.z.tr_mul(&y);
        let mut best: Option<(usize, f64, f64)> = None;
        for lambda in LAMBDAS {
            let (right, squares) = crossed(&self.z, &gains(lambda), &z_y, &y, targets, &constant);
            let is_better = best.is_none_or(|(best_right, best_squares, _)| match choice {
                Choice::Class => match right.cmp(&best_right) {
                    Ordering::Equal => squares < best_squares,
                    order => order == Ordering::Greater,
                },
                Choice::Squares => squares < best_squares,
            });
            if is_better {
                best = Some((right, squares, lambda));
            }
        }
        let (n_right, _, lambda) = best.unwrap_or((0, 0.0, 1.0));
        for (mut row, gain) in z_y.row_iter_mut().zip(gains(lambda).iter()) {
            row *= *gain;
        }
        Ok(Fitted {
            linear: self.linear(z_y, constant, lambda),
            n_right,
        })
    }

    /// Multinomial logistic regression to classes below `n_classes`, along the principal directions
    /// in which the features vary most.
    pub(crate) fn logistic(&self, classes: &[usize], n_classes: usize) -> Fitted {
        let n = classes.len().min(self.z.nrows());
        let mut order: Vec<usize> = (0..self.squares.len()).collect();
        order.sort_by(|a, b| self.squares[*b].total_cmp(&self.squares[*a]));
        order.truncate(MAX_DIRECTIONS);
        let squares = self.squares.select_rows(&order).push(n as f64);
        let directions = order.len();
        let task = Task {
            z: self.z.select_columns(&order).insert_column(directions, 1.0),
            y: DMatrix::from_fn(n, n_classes, |i, class| {
                f64::from(u8::from(classes[i] == class))
            }),
        };
        let n_folds = N_FOLDS.min(n);
        let folds: Vec<(Task, Task)> = (0..n_folds).map(|fold| task.split(fold, n_folds)).collect();
        let nothing = DMatrix::zeros(directions + 1, n_classes);
        let mut found = vec![nothing.clone(); n_folds];
        let mut best: Option<(usize, f64, f64)> = None;
        for lambda in LOGISTIC_LAMBDAS {
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
            let is_better = best.is_none_or(|(best_right, best_likelihood, _)| {
                right > best_right || (right == best_right && likelihood > best_likelihood)
            });
            if is_better {
                best = Some((right, likelihood, lambda));
            }
        }
        let (n_right, _, lambda) = best.unwrap_or((0, 0.0, 1.0));
        let mut weights = nothing;
        for larger in LOGISTIC_LAMBDAS
            .into_iter()
            .filter(|larger| *larger >= lambda)
        {
            task.fit(larger, &squares, &mut weights);
        }
        let mut all = DMatrix::zeros(self.squares.len(), n_classes);
        for (row, at) in weights.row_iter().zip(order) {
            all.set_row(at, &row);
        }
        Fitted {
            linear: self.linear(all, weights.row(directions).transpose(), lambda),
            n_right,
        }
    }
}

/// Samples along principal directions, with a column of 1 for constants, and their classes: a row a
/// sample, with 1 in its class's column.
struct Task {
    z: DMatrix<f64>,
    y: DMatrix<f64>,
}

impl Task {
    /// The samples that are not in the fold, and those that are.
    fn split(&self, fold: usize, n_folds: usize) -> (Task, Task) {
        let of = |is_in: bool| {
            let rows: Vec<usize> = (0..self.z.nrows())
                .filter(|row| (row % n_folds == fold) == is_in)
                .collect();
            Task {
                z: self.z.select_rows(&rows),
                y: self.y.select_rows(&rows),
            }
        };
        (of(false), of(true))
    }

    /// The share of each class for each sample.
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

    /// Improves `weights` for the penalty `lambda / 2 * weights^2`, which constants do not have, by
    /// accelerated steps over a bound of the second derivative: half of `z'z` for every class
    /// (Böhning, "Multinomial logistic regression algorithm", 1992). That of all samples bounds
    /// that of some, and is the diagonal `squares`.
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
    /// The slope of the first target by each feature.
    pub(crate) fn slopes(&self) -> Vec<f64> {
        let weights = self.weights.column(0);
        weights
            .iter()
            .zip(&self.scale)
            .map(|(weight, scale)| weight * scale)
            .collect()
    }

    /// The targets that the features of a sample give.
    pub(crate) fn predict(&self, features: &[f32]) -> Vec<f64> {
        let mut out: Vec<f64> = self.constant.iter().copied().collect();
        for (j, value) in features.iter().enumerate().take(self.mean.len()) {
            let value = (finite(*value) - self.mean[j]) * self.scale[j];
            if value != 0.0 {
                for (k, out) in out.iter_mut().enumerate() {
                    *out += value * self.weights[(j, k)];
                }
            }
        }
        out
    }
}

/// How many samples are right, and the sum of squares, where each fold is predicted by the others.
fn crossed(
    z: &DMatrix<f64>,
    gains: &DVector<f64>,
    z_y: &DMatrix<f64>,
    y: &DMatrix<f64>,
    targets: &DMatrix<f64>,
    constant: &DVector<f64>,
) -> (usize, f64) {
    let n = y.nrows();
    let mut inner = z_y.clone();
    for (mut row, gain) in inner.row_iter_mut().zip(gains.iter()) {
        row *= *gain;
    }
    let residuals = y - z * inner;
    let (mut right, mut squares) = (0, 0.0);
    for fold in 0..N_FOLDS.min(n) {
        let rows: Vec<usize> = (fold..n).step_by(N_FOLDS.min(n)).collect();
        let of_fold = z.select_rows(&rows);
        let mut gained = of_fold.clone();
        for (mut column, gain) in gained.column_iter_mut().zip(gains.iter()) {
            column *= *gain;
        }
        let mut system = -(gained * of_fold.transpose());
        for i in 0..rows.len() {
            system[(i, i)] += 1.0;
        }
        let Some(left_out) = system.lu().solve(&residuals.select_rows(&rows)) else {
            return (0, f64::INFINITY);
        };
        squares += left_out.norm_squared();
        for (i, row) in rows.iter().enumerate() {
            let predicted = (0..y.ncols()).map(|j| y[(*row, j)] + constant[j] - left_out[(i, j)]);
            let target = targets.row(*row);
            if largest(predicted) == largest(target.iter().copied()) {
                right += 1;
            }
        }
    }
    (right, squares)
}

/// The index of the largest; the first of those.
pub(crate) fn largest(values: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (i, value) in values.enumerate() {
        if value.is_finite() && best.is_none_or(|(_, largest)| value > largest) {
            best = Some((i, value));
        }
    }
    best.map(|(i, _)| i)
}

/// A feature as a number that squares do not overflow.
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

    /// `(X'X + lambda)^-1 X'Y`, solved anew for the samples `rows`, with features and targets
    /// standardised as all are.
    fn closed_form(
        features: &[Vec<f32>],
        targets: &DMatrix<f64>,
        lambda: f64,
        rows: &[usize],
    ) -> DMatrix<f64> {
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
        let (x, y) = (x.select_rows(rows), y.select_rows(rows));
        let gram = x.tr_mul(&x) + DMatrix::identity(d, d) * lambda;
        gram.lu().solve(&x.tr_mul(&y)).unwrap()
    }

    #[test]
    fn it_agrees_with_the_closed_form_in_both_forms() {
        for (n, d) in [(40, 6), (12, 30)] {
            let (features, targets) = data(n, d);
            let ridge = Basis::of(&features)
                .unwrap()
                .ridge(&targets, Choice::Squares)
                .unwrap()
                .linear;
            let all: Vec<usize> = (0..n).collect();
            let want = closed_form(&features, &targets, ridge.lambda, &all);
            assert!(
                (&ridge.weights - &want).norm() < 1e-6 * want.norm(),
                "{n} {d}"
            );
        }
    }

    #[test]
    fn folds_are_predicted_by_the_others() {
        let (features, targets) = data(20, 4);
        // What the formula gives for one penalty, against five fits that leave a fold out.
        let lambda = 1.0;
        let mut squares = 0.0;
        let (n, d) = (20, 4);
        let mut x = DMatrix::from_fn(n, d, |i, j| f64::from(features[i][j]));
        for mut column in x.column_iter_mut() {
            let (m, s) = (column.mean(), column.variance().sqrt());
            column.apply(|v| *v = (*v - m) / s);
        }
        let constant = DVector::from_fn(2, |j, _| targets.column(j).mean());
        let mut y = targets.clone();
        for mut column in y.column_iter_mut() {
            let m = column.mean();
            column.add_scalar_mut(-m);
        }
        for fold in 0..5 {
            let others: Vec<usize> = (0..n).filter(|i| i % 5 != fold).collect();
            let weights = closed_form(&features, &targets, lambda, &others);
            for i in (0..n).filter(|i| i % 5 == fold) {
                squares += (y.row(i) - x.row(i) * &weights).norm_squared();
            }
        }
        let SymmetricEigen {
            eigenvectors,
            eigenvalues,
        } = SymmetricEigen::new(x.tr_mul(&x));
        let p = &x * eigenvectors;
        let gains = eigenvalues.map(|s| 1.0 / (s + lambda));
        let (_, got) = crossed(&p, &gains, &p.tr_mul(&y), &y, &targets, &constant);
        assert!((got - squares).abs() < 1e-9 * squares, "{got} {squares}");
    }

    #[test]
    fn predictions_are_the_lines_that_were_fitted() {
        let features: Vec<Vec<f32>> = (0..50).map(|i| vec![i as f32, 7.0]).collect();
        let targets = DMatrix::from_fn(50, 1, |i, _| 3.0 * i as f64 - 2.0);
        let ridge = Basis::of(&features)
            .unwrap()
            .ridge(&targets, Choice::Squares)
            .unwrap()
            .linear;
        assert!((ridge.predict(&[60.0, 9.0])[0] - 178.0).abs() < 0.1);
        assert!(ridge.predict(&[f32::NAN, 9.0])[0].is_finite());
        assert!(Basis::of(&[]).is_err());
        assert!(
            Basis::of(&features)
                .unwrap()
                .ridge(&targets.rows(0, 9).into(), Choice::Class)
                .is_err()
        );
    }

    /// Three classes and two, by gradient descent over the features themselves until nothing moves.
    #[test]
    fn logistic_regression_is_what_slow_descent_finds() {
        for (n, d, k, least) in [(60, 4, 3, 40), (24, 40, 2, 13)] {
            let (features, targets) = data(n, d);
            let classes: Vec<usize> = (0..n)
                .map(|i| {
                    usize::from(targets[(i, 0)] > 0.3)
                        + usize::from(k == 3 && targets[(i, 1)] > 0.5)
                })
                .collect();
            let basis = Basis::of(&features).unwrap();
            let Fitted { linear, n_right } = basis.logistic(&classes, k);
            let lambda = linear.lambda;
            let task = Task {
                z: basis.x.clone().insert_column(d, 1.0),
                y: DMatrix::from_fn(n, k, |i, j| f64::from(u8::from(classes[i] == j))),
            };
            let mut slow = DMatrix::zeros(d + 1, k);
            for _ in 0..20_000 {
                let mut slope = task.z.tr_mul(&(&task.y - task.shares(&slow)));
                slope.rows_mut(0, d).sub_assign(slow.rows(0, d) * lambda);
                slow += slope / (n * d) as f64;
            }
            let mut got = linear.weights.insert_row(d, 0.0);
            got.set_row(d, &linear.constant.transpose());
            let off = (task.shares(&got) - task.shares(&slow)).amax();
            assert!(off < 0.02, "{n} {d} {k}, penalty {lambda}: {off}");
            assert!(n_right >= least, "{n_right} of {n}");
        }
    }
}
