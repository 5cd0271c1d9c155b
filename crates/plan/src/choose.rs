//! Choosing subsequences by score, up to a number of bytes.

use std::cmp::Ordering;

use crate::position::{Run, runs};

/// One subsequence that may be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// What it is worth, per byte.
    pub score: f64,
    pub bytes: u32,
    /// The tensor it belongs to, as the caller counts them.
    pub tensor: u32,
    /// Its number in the tensor.
    pub index: u32,
}

impl Candidate {
    /// A subsequence of `bytes` with a score that is not yet per byte.
    pub fn new(score: f64, bytes: u64, tensor: usize, index: u64) -> Candidate {
        let score = score / bytes.max(1) as f64;
        Candidate {
            score: if score.is_finite() { score.abs() } else { 0.0 },
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            tensor: tensor as u32,
            index: index as u32,
        }
    }

    /// The best first; of equals the first in the file.
    fn order(&self, other: &Candidate) -> Ordering {
        (other.score.total_cmp(&self.score))
            .then_with(|| (self.tensor, self.index).cmp(&(other.tensor, other.index)))
    }
}

/// Moves the best of `candidates` to the front: as few as have `budget` bytes together, or all of them.
/// Returns how many these are.
///
/// As quickselect does, with bytes in place of a rank: the time is linear in the number of candidates.
pub(crate) fn best(candidates: &mut [Candidate], budget: u64) -> usize {
    let (mut low, mut high, mut left) = (0, candidates.len(), budget);
    while low < high && left > 0 {
        let middle = low + (high - low) / 2;
        candidates[low..high].select_nth_unstable_by(middle - low, Candidate::order);
        let bytes = |part: &[Candidate]| part.iter().map(|c| u64::from(c.bytes)).sum::<u64>();
        let before = bytes(&candidates[low..middle]);
        if before >= left {
            high = middle;
        } else {
            left = (left - before).saturating_sub(candidates[middle].bytes.into());
            low = middle + 1;
        }
    }
    low
}

/// Joins the subsequences of one tensor into runs.
pub(crate) fn joined(mut indices: Vec<u32>) -> Vec<Run> {
    indices.sort_unstable();
    runs(indices.into_iter().map(u64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(scores: &[f64], bytes: impl Fn(usize) -> u32) -> Vec<Candidate> {
        let of = |(index, &score)| Candidate {
            score,
            bytes: bytes(index),
            tensor: 0,
            index: index as u32,
        };
        scores.iter().enumerate().map(of).collect()
    }

    fn taken(mut all: Vec<Candidate>, budget: u64) -> Vec<u32> {
        let n = best(&mut all, budget);
        let mut indices: Vec<u32> = all[..n].iter().map(|c| c.index).collect();
        indices.sort_unstable();
        indices
    }

    #[test]
    fn the_best_are_taken_until_the_budget_is_reached() {
        let all = || candidates(&[0.1, 0.9, 0.5, 0.9, 0.3], |_| 10);
        assert!(taken(all(), 0).is_empty());
        // Of equals the first.
        assert_eq!(taken(all(), 10), [1]);
        assert_eq!(taken(all(), 11), [1, 3]);
        assert_eq!(taken(all(), 30), [1, 2, 3]);
        assert_eq!(taken(all(), 50), [0, 1, 2, 3, 4]);
        assert_eq!(taken(all(), 1000), [0, 1, 2, 3, 4]);
        assert!(taken(Vec::new(), 1000).is_empty());
    }

    #[test]
    fn the_same_as_by_sorting() {
        let mut state = 1u64;
        let mut draw = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % n
        };
        for n in [1, 2, 3, 10, 100, 1000] {
            let scores: Vec<f64> = (0..n).map(|_| draw(50) as f64).collect();
            let sizes: Vec<u32> = (0..n).map(|_| 1 + draw(300) as u32).collect();
            let all = || candidates(&scores, |i| sizes[i]);
            let total: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
            for budget in [1, total / 7, total / 2, total - 1, total] {
                let mut sorted = all();
                sorted.sort_by(Candidate::order);
                let mut bytes = 0;
                let mut expected = Vec::new();
                for candidate in sorted {
                    if bytes >= budget {
                        break;
                    }
                    bytes += u64::from(candidate.bytes);
                    expected.push(candidate.index);
                }
                expected.sort_unstable();
                assert_eq!(taken(all(), budget), expected, "{n} {budget}");
            }
        }
    }
}
