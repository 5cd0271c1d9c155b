//! Intervals, and the split of samples between attacker and evaluation.

use std::collections::BTreeSet;

use onnxseal_data::random::{rng, shuffled};

use crate::assessment::Interval;

/// The 97.5 % quantile of the normal distribution.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// Computes Wilson's 95 % interval for a share of `n` samples (Wilson, "Probable inference, the law
/// of succession, and statistical inference", 1927).
pub(crate) fn wilson(share: f64, n: usize) -> Interval {
    if n == 0 {
        let (low, high) = (0.0, 1.0);
        return Interval { low, high };
    }
    let n = n as f64;
    let share = share.clamp(0.0, 1.0);
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let over = 1.0 + Z * Z / n;
    Interval {
        low: ((middle - half) / over).max(0.0),
        high: ((middle + half) / over).min(1.0),
    }
}

/// Computes a mean and its 95 % interval, by the normal distribution.
pub(crate) fn of_mean(values: &[f64]) -> (f64, Interval) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    let variance = squares.sum::<f64>() / (n - 1.0).max(1.0);
    let half = Z * (variance / n).sqrt();
    let (low, high) = (mean - half, mean + half);
    (mean, Interval { low, high })
}

/// The samples, split between attacker and evaluation.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    /// The attacker's samples, in random order.
    pub(crate) attacker: Vec<usize>,
    /// The other samples, in random order.
    pub(crate) evaluation: Vec<usize>,
    /// The numbers of labels for which there are enough samples.
    pub(crate) sizes: Vec<usize>,
    /// The numbers of labels for which there are too few samples.
    pub(crate) dropped: Vec<usize>,
}

/// Gives the attacker as many of `n` samples as the largest of `sizes` needs; at least half stay
/// for evaluation.
pub(crate) fn split(n: usize, sizes: &[usize], seed: u64) -> Split {
    let sizes: BTreeSet<usize> = sizes.iter().copied().collect();
    let (mut sizes, dropped): (Vec<usize>, Vec<usize>) =
        sizes.into_iter().partition(|size| *size <= n / 2);
    sizes.retain(|size| *size > 1);
    // If all sizes are too large, the attacker still gets data without labels, to estimate
    // statistics.
    let n_attacker = sizes.last().copied().unwrap_or(n / 2);
    let mut attacker = shuffled(n, &mut rng(seed, "split"));
    let evaluation = attacker.split_off(n_attacker);
    Split {
        attacker,
        evaluation,
        sizes,
        dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method
    /// 3.
    #[test]
    fn intervals_are_the_published_ones() {
        for (k, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let got = wilson(f64::from(k) / n as f64, n);
            assert!(
                (got.low - low).abs() < 5e-5 && (got.high - high).abs() < 5e-5,
                "{k}/{n}: {got:?}"
            );
        }
        let nothing = wilson(0.5, 0);
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
    }

    #[test]
    fn the_attackers_samples_are_not_evaluated_on() {
        let split = split(250, &[1000, 100, 100], 7);
        assert_eq!((split.attacker.len(), split.evaluation.len()), (100, 150));
        assert_eq!((split.sizes, split.dropped), (vec![100], vec![1000]));
        let mut all = [split.attacker, split.evaluation].concat();
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..250));
        assert_eq!(super::split(9, &[100], 7).evaluation.len(), 5);
    }
}
