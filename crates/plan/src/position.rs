//! Positions of targets in their tensor.

use serde::Deserialize;

/// A run of subsequences: `skip` of them stay clear, then `take` are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Subsequences left clear since the previous run; at least 1 except in the first run.
    pub skip: u64,
    /// Subsequences encrypted; at least 1.
    pub take: u64,
}

/// Which subsequences of a tensor are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Those with the highest [`Scores`](crate::Scores) in the whole model.
    #[default]
    Energy,
    /// Evenly spread over each tensor, with equal bytes for each operator of a type.
    Spread,
}

/// Returns the indices of the subsequences in runs.
pub(crate) fn indices(targets: &[Run]) -> impl Iterator<Item = u64> {
    let mut next = 0;
    targets.iter().flat_map(move |run| {
        let first = next + run.skip;
        next = first + run.take;
        first..next
    })
}

/// Chooses `k` of `n` subsequences, the middles of `k` equal parts: `floor((2i + 1) * n / 2k)`.
/// `k <= n <= 2^20`.
pub(crate) fn spread(n: u64, k: u64) -> Vec<Run> {
    runs((0..k).map(|i| (2 * i + 1) * n / (2 * k)))
}

/// Joins ascending positions that touch.
pub(crate) fn runs(positions: impl Iterator<Item = u64>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut end = 0;
    for position in positions {
        match runs.last_mut() {
            Some(run) if position == end => run.take += 1,
            _ => runs.push(Run {
                skip: position - end,
                take: 1,
            }),
        }
        end = position + 1;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(runs: &[Run]) -> Vec<u64> {
        indices(runs).collect()
    }

    #[test]
    fn spread_takes_middles() {
        let of = |n, k| positions(&spread(n, k));
        assert_eq!(of(10, 1), [5]);
        assert_eq!(of(8, 2), [2, 6]);
        // 7/6, 21/6, 35/6
        assert_eq!(of(7, 3), [1, 3, 5]);
        assert_eq!(spread(9, 9), [Run { skip: 0, take: 9 }]);
        // 5/6, 15/6, 25/6: 0, 2, 4 of 5
        assert_eq!(
            spread(5, 3),
            [
                Run { skip: 0, take: 1 },
                Run { skip: 1, take: 1 },
                Run { skip: 1, take: 1 }
            ]
        );
    }

    #[test]
    fn spread_takes_k_distinct_positions_in_well_formed_runs() {
        let sizes = (1..70).chain([127, 128, 1000, 4095, 4096]);
        for n in sizes {
            for k in (0..=n.min(70)).chain([n / 2, n - 1, n]) {
                let runs = spread(n, k);
                let positions = positions(&runs);
                assert_eq!(positions.len() as u64, k, "{k} of {n}");
                assert!(positions.is_sorted_by(|a, b| a < b));
                assert!(positions.last().is_none_or(|&last| last < n));
                assert!(runs.iter().all(|run| run.take >= 1));
                assert!(runs.iter().skip(1).all(|run| run.skip >= 1));
                let gaps: Vec<u64> = positions.windows(2).map(|w| w[1] - w[0]).collect();
                let (least, most) = (gaps.iter().min(), gaps.iter().max());
                assert!(
                    most.zip(least)
                        .is_none_or(|(most, least)| most - least <= 1)
                );
            }
        }
    }
}
