//! Chooses subsequences by score, up to a number of bytes.

use std::cmp::Ordering;

use crate::position::{Run, runs};
use crate::subsequence::Cut;

/// The leading bits of a worth that select its bucket: the sign, exponent and 4 bits of mantissa of
/// a positive f64, so that 16 buckets lie between a worth and its double.
const BUCKET_BITS: u32 = 1 + 11 + 4;

/// A tensor offered for choice, subsequence by subsequence.
pub(crate) struct Offer {
    /// The worth of each subsequence per byte, 0 or more.
    worths: Vec<f64>,
    unit_bytes: u64,
    last_bytes: u64,
}

impl Offer {
    /// Offers a tensor with the `scores` of its subsequences, each multiplied by `coefficient`.
    pub fn new(cut: Cut, scores: Vec<f64>, coefficient: f64) -> Offer {
        let mut offer = Offer {
            worths: scores,
            unit_bytes: cut.unit_bytes(),
            last_bytes: cut.bytes(cut.n - 1, 1),
        };
        for index in 0..offer.worths.len() {
            offer.worths[index] = per_byte(coefficient * offer.worths[index], offer.bytes(index));
        }
        offer
    }

    /// Returns the length in bytes of subsequence `index`.
    fn bytes(&self, index: usize) -> u64 {
        if index + 1 < self.worths.len() {
            self.unit_bytes
        } else {
            self.last_bytes
        }
    }
}

/// Takes the subsequences of `offers` that are worth most per byte: as few as reach `budget` bytes
/// together, or all of them. Returns the runs of each offer.
///
/// A large model has millions of subsequences, so this neither lists nor sorts all of them: only
/// those worth about as much as the last one taken.
pub(crate) fn take_best(offers: &[Offer], budget: u64) -> Vec<Vec<Run>> {
    let last = last_taken(offers, budget);
    let taken = offers.iter().zip(0..).map(|(offer, tensor)| {
        let Some(last) = last else { return Vec::new() };
        // Of subsequences with equal worth, take the first in the file.
        let (worth, limit) = (last.score, last.limit(tensor));
        let worths = offer.worths.iter().enumerate();
        let taken = worths.filter(|&(index, &of)| of > worth || (of == worth && index < limit));
        runs(taken.map(|(index, _)| index as u64))
    });
    taken.collect()
}

/// One subsequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its worth per byte.
    pub score: f64,
    pub bytes: u32,
    /// The tensor it belongs to, by the caller's numbering.
    pub tensor: u32,
    /// Its number in the tensor.
    pub index: u32,
}

impl Candidate {
    /// Makes a candidate of `bytes` bytes, each of them worth `score`.
    pub fn new(score: f64, bytes: u64, tensor: usize, index: u64) -> Candidate {
        Candidate {
            score,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            tensor: tensor as u32,
            index: index as u32,
        }
    }

    /// Orders the best first; among equals the first in the file.
    fn order(&self, other: &Candidate) -> Ordering {
        (other.score.total_cmp(&self.score))
            .then_with(|| (self.tensor, self.index).cmp(&(other.tensor, other.index)))
    }

    /// Returns the number below which equals of this candidate in `tensor` are taken: those that
    /// come no later.
    fn limit(&self, tensor: u32) -> usize {
        match tensor.cmp(&self.tensor) {
            Ordering::Less => usize::MAX,
            Ordering::Equal => self.index as usize + 1,
            Ordering::Greater => 0,
        }
    }
}

/// Returns the worst of the subsequences to take, or `None` if the budget takes none.
fn last_taken(offers: &[Offer], budget: u64) -> Option<Candidate> {
    let mut bytes_in = vec![0u64; 1 << BUCKET_BITS];
    for offer in offers {
        for (index, worth) in offer.worths.iter().enumerate() {
            bytes_in[bucket(*worth)] += offer.bytes(index);
        }
    }
    let mut left = budget.min(bytes_in.iter().sum());
    if left == 0 {
        return None;
    }
    let last_bucket = (bytes_in.iter().rposition(|&bytes| {
        let is_last = bytes >= left;
        if !is_last {
            left -= bytes;
        }
        is_last
    }))?;
    let mut candidates = Vec::new();
    for (tensor, offer) in offers.iter().enumerate() {
        let worths = offer.worths.iter().enumerate();
        let in_bucket = worths.filter(|(_, worth)| bucket(**worth) == last_bucket);
        candidates.extend(in_bucket.map(|(index, &worth)| {
            Candidate::new(worth, offer.bytes(index), tensor, index as u64)
        }));
    }
    let n = best(&mut candidates, left);
    candidates[..n].iter().copied().max_by(Candidate::order)
}

/// Returns what each of the `bytes` of a subsequence is worth.
pub(crate) fn per_byte(score: f64, bytes: u64) -> f64 {
    let score = score / bytes.max(1) as f64;
    if score.is_finite() { score.abs() } else { 0.0 }
}

/// Returns the bucket of a worth: positive floats sort as their bits do.
fn bucket(worth: f64) -> usize {
    (worth.to_bits() >> (u64::BITS - BUCKET_BITS)) as usize
}

/// Moves the best of `candidates` to the front: as few as reach `budget` bytes together, or all of
/// them. Returns their number.
///
/// Quickselect by bytes instead of rank, in time linear in the number of candidates.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws reproducible pseudo-random numbers.
    fn draws(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |n| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % n
        }
    }

    /// Offers tensors of bytes with these scores, in units of ten; the last unit of each has four
    /// bytes.
    fn offers(scores: &[&[f64]]) -> Vec<Offer> {
        let of = |scores: &&[f64]| {
            let cut = Cut::new(10 * scores.len() as u64 - 6, 8, 10);
            Offer::new(cut, scores.to_vec(), 1.0)
        };
        scores.iter().map(of).collect()
    }

    fn taken(offers: &[Offer], budget: u64) -> Vec<(usize, u64)> {
        let runs = take_best(offers, budget);
        let mut taken = Vec::new();
        for (tensor, runs) in runs.iter().enumerate() {
            let mut at = 0;
            for run in runs {
                at += run.skip;
                taken.extend((at..at + run.take).map(|index| (tensor, index)));
                at += run.take;
            }
        }
        taken
    }

    #[test]
    fn the_best_are_taken_until_the_budget_is_reached() {
        let offers = offers(&[&[0.1, 0.9, 0.5, 0.9, 0.0], &[0.9, 0.0]]);
        assert!(taken(&offers, 0).is_empty());
        // Among equals, the first.
        assert_eq!(taken(&offers, 10), [(0, 1)]);
        assert_eq!(taken(&offers, 11), [(0, 1), (0, 3)]);
        assert_eq!(taken(&offers, 30), [(0, 1), (0, 3), (1, 0)]);
        assert_eq!(taken(&offers, 31), [(0, 1), (0, 2), (0, 3), (1, 0)]);
        // Subsequences with score 0 come last; the ends have 4 bytes each.
        let all_but_one = taken(&offers, 51);
        assert_eq!(all_but_one.len(), 6);
        assert!(!all_but_one.contains(&(1, 1)));
        for budget in [55, 58, 59, 1000] {
            assert_eq!(taken(&offers, budget).len(), 7);
        }
        assert!(taken(&[], 1000).is_empty());
    }

    #[test]
    fn what_is_no_number_is_worth_nothing() {
        let offers = offers(&[&[f64::NAN, f64::INFINITY, 1e-300, f64::NEG_INFINITY, -0.0]]);
        assert_eq!(taken(&offers, 10), [(0, 2)]);
        assert_eq!(taken(&offers, 11), [(0, 0), (0, 2)]);
        assert_eq!(taken(&offers, 1000).len(), 5);
    }

    #[test]
    fn the_same_as_by_sorting() {
        let mut draw = draws(1);
        for n in [1, 2, 3, 10, 100, 1000] {
            // Scores with few different values, with many, and of all magnitudes.
            for spread in [1u64, 50, 1 << 40] {
                let mut scores = || -> Vec<f64> {
                    let power = |draw: &mut dyn FnMut(u64) -> u64| match spread {
                        50.. => 2f64.powi(draw(60) as i32 - 30),
                        _ => 1.0,
                    };
                    let of = |_| draw(spread) as f64 * power(&mut draw);
                    (0..n).map(of).collect()
                };
                let (a, b) = (scores(), scores());
                let offers = offers(&[&a, &b]);
                let mut sorted: Vec<(f64, usize, u64, u64)> = Vec::new();
                for (tensor, offer) in offers.iter().enumerate() {
                    sorted.extend(offer.worths.iter().zip(0..).map(|(&worth, index)| {
                        (worth, tensor, index, offer.bytes(index as usize))
                    }));
                }
                let total: u64 = sorted.iter().map(|&(_, _, _, bytes)| bytes).sum();
                assert_eq!(total, 2 * (10 * n - 6));
                sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
                for budget in [1, total / 7, total / 2, total - 1, total, total + 1] {
                    let mut bytes = 0;
                    let mut expected = Vec::new();
                    for &(_, tensor, index, its_bytes) in &sorted {
                        if bytes >= budget {
                            break;
                        }
                        bytes += its_bytes;
                        expected.push((tensor, index));
                    }
                    expected.sort_unstable();
                    assert_eq!(taken(&offers, budget), expected, "{n} {spread} {budget}");
                }
            }
        }
    }
}
