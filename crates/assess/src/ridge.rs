//! Ridge regression with a penalty that cross-validation chooses.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use crate::error::{Error, Result};

/// The penalties that are tried.
const LAMBDAS: [f64; 7] = [1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4];

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

/// A linear map of standardised features, with its constant.
#[derive(Debug)]
pub(crate) struct Ridge {
    mean: Vec<f64>,
    /// 1 / deviation; 0 for features that do not vary.
    scale: Vec<f64>,
    /// `[features, targets]`.
    weights: DMatrix<f64>,
    constant: DVector<f64>,
    /// The penalty.
    #[cfg(test)]
    lambda: f64,
}

impl Ridge {
    /// Fits `targets` `[n, k]` to `features`, one row a sample.
    ///
    /// For `X = features, standardised`, one eigendecomposition serves all penalties and folds: of `X'X`, or of `XX'` where
    /// features outnumber samples. With `H = X (X'X + lambda)^-1 X'`, the residuals of a fold F that the other folds
    /// predict are `(1 - H_FF)^-1 (Y - HY)_F`.
    ///
    /// # Errors
    /// [`Error::Usage`] where there are no samples or no features.
    pub(crate) fn fit(
        features: &[Vec<f32>],
        targets: &DMatrix<f64>,
        choice: Choice,
    ) -> Result<Ridge> {
        let n = features.len();
        let d = features.first().map_or(0, Vec::len);
        if n < 2 || d == 0 || targets.nrows() != n {
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
        let constant = DVector::from_fn(targets.ncols(), |j, _| targets.column(j).mean());
        let mut y = targets.clone();
        for (mut column, mean) in y.column_iter_mut().zip(constant.iter()) {
            column.add_scalar_mut(-mean);
        }
        let is_primal = d <= n;
        let gram = if is_primal {
            x.tr_mul(&x)
        } else {
            &x * x.transpose()
        };
        let SymmetricEigen {
            eigenvectors,
            eigenvalues,
        } = SymmetricEigen::new(gram);
        // H = P g P', where g depends on the penalty.
        let p = if is_primal {
            &x * &eigenvectors
        } else {
            eigenvectors.clone()
        };
        let gains = |lambda: f64| {
            eigenvalues.map(|s| {
                let s = s.max(0.0);
                if is_primal {
                    1.0 / (s + lambda)
                } else {
                    s / (s + lambda)
                }
            })
        };
        let p_y = p.tr_mul(&y);
        let mut best: Option<(f64, f64, f64)> = None;
        for lambda in LAMBDAS {
            let (right, squares) = crossed(&p, &gains(lambda), &p_y, &y, targets, &constant);
            let is_better = best.is_none_or(|(best_right, best_squares, _)| match choice {
                Choice::Class => (right, -squares) > (best_right, -best_squares),
                Choice::Squares => squares < best_squares,
            });
            if is_better {
                best = Some((right, squares, lambda));
            }
        }
        let lambda = best.map_or(1.0, |(.., lambda)| lambda);
        let inverse = eigenvalues.map(|s| 1.0 / (s.max(0.0) + lambda));
        let mut inner = match is_primal {
            true => p_y,
            false => eigenvectors.tr_mul(&y),
        };
        for (mut row, gain) in inner.row_iter_mut().zip(inverse.iter()) {
            row *= *gain;
        }
        let weights = match is_primal {
            true => &eigenvectors * inner,
            false => x.tr_mul(&(&eigenvectors * inner)),
        };
        Ok(Ridge {
            mean,
            scale,
            weights,
            constant,
            #[cfg(test)]
            lambda,
        })
    }

    /// What one more of each feature adds to the first target.
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
    p: &DMatrix<f64>,
    gains: &DVector<f64>,
    p_y: &DMatrix<f64>,
    y: &DMatrix<f64>,
    targets: &DMatrix<f64>,
    constant: &DVector<f64>,
) -> (f64, f64) {
    let n = y.nrows();
    let mut inner = p_y.clone();
    for (mut row, gain) in inner.row_iter_mut().zip(gains.iter()) {
        row *= *gain;
    }
    let residuals = y - p * inner;
    let (mut right, mut squares) = (0.0, 0.0);
    for fold in 0..N_FOLDS.min(n) {
        let rows: Vec<usize> = (fold..n).step_by(N_FOLDS.min(n)).collect();
        let of_fold = p.select_rows(&rows);
        let mut gained = of_fold.clone();
        for (mut column, gain) in gained.column_iter_mut().zip(gains.iter()) {
            column *= *gain;
        }
        let mut system = -(gained * of_fold.transpose());
        for i in 0..rows.len() {
            system[(i, i)] += 1.0;
        }
        let Some(left_out) = system.lu().solve(&residuals.select_rows(&rows)) else {
            return (-1.0, f64::INFINITY);
        };
        squares += left_out.norm_squared();
        for (i, row) in rows.iter().enumerate() {
            let predicted = (0..y.ncols()).map(|j| y[(*row, j)] + constant[j] - left_out[(i, j)]);
            let target = targets.row(*row);
            if largest(predicted) == largest(target.iter().copied()) {
                right += 1.0;
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
    use super::*;
    use crate::random::{gaussian, rng};

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

    /// `(X'X + lambda)^-1 X'Y`, solved anew for the samples `rows`, with features and targets standardised as all are.
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
            let ridge = Ridge::fit(&features, &targets, Choice::Squares).unwrap();
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
        let ridge = Ridge::fit(&features, &targets, Choice::Squares).unwrap();
        assert!((ridge.predict(&[60.0, 9.0])[0] - 178.0).abs() < 0.1);
        assert!(ridge.predict(&[f32::NAN, 9.0])[0].is_finite());
        assert!(Ridge::fit(&[], &targets, Choice::Class).is_err());
    }
}
