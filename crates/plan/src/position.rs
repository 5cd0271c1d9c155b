//! Which subsequences are targets: strategies that depend on no key.

/// A run of subsequences: `skip` of them stay clear, then `take` are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Subsequences left clear since the end of the run before; at least 1 but in the first run.
    pub skip: u64,
    /// Subsequences encrypted; at least 1.
    pub take: u64,
}

/// Which subsequences of a tensor are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Those that weigh most, by [`Scores`](crate::Scores).
    #[default]
    Energy,
    /// Evenly over the tensor.
    Spread,
    /// The first ones.
    Head,
    /// Drawn by a public seed and the tensor's path.
    Seeded {
        /// The seed. It is no secret and makes nothing secret.
        seed: u64,
    },
}

impl Strategy {
    /// Chooses `k` of `n` subsequences of the tensor at `path`; `k <= n <= 2^20`. Those chosen by score
    /// are chosen elsewhere, as far as there is a choice.
    pub(crate) fn targets(self, n: u64, k: u64, path: &str) -> Vec<Run> {
        match self {
            Strategy::Energy | Strategy::Head if k == 0 => Vec::new(),
            Strategy::Energy | Strategy::Head => vec![Run { skip: 0, take: k }],
            Strategy::Spread => runs(spread(n, k)),
            Strategy::Seeded { seed } => runs(seeded(n, k, seed, path)),
        }
    }
}

/// The middles of `k` equal parts of `[0, n)`: `floor((2i + 1) * n / 2k)`.
fn spread(n: u64, k: u64) -> impl Iterator<Item = u64> {
    (0..k).map(move |i| (2 * i + 1) * n / (2 * k))
}

/// Selection sampling (Knuth, The Art of Computer Programming, volume 2, algorithm 3.4.2 S): one
/// draw for each of the `n` subsequences in order. Subsequence `s` is taken when
/// `floor(draw * (n - s) / 2^64) < k - taken`.
///
/// The draws are SplitMix64's, started from FNV-1a 64 of the seed's 8 bytes (little-endian) and the
/// path's UTF-8. Enough to scatter; no cryptography.
fn seeded(n: u64, k: u64, seed: u64, path: &str) -> impl Iterator<Item = u64> {
    let mut draws = SplitMix64(fnv1a(seed.to_le_bytes().into_iter().chain(path.bytes())));
    let mut missing = k;
    (0..n).filter(move |s| {
        let below = (u128::from(draws.draw()) * u128::from(n - s)) >> 64;
        let taken = below < u128::from(missing);
        missing -= u64::from(taken);
        taken
    })
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
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
        let mut at = 0;
        let mut positions = Vec::new();
        for run in runs {
            at += run.skip;
            positions.extend(at..at + run.take);
            at += run.take;
        }
        positions
    }

    #[test]
    fn spread_takes_middles() {
        let of = |n, k| positions(&Strategy::Spread.targets(n, k, ""));
        assert_eq!(of(10, 1), [5]);
        assert_eq!(of(8, 2), [2, 6]);
        // 7/6, 21/6, 35/6
        assert_eq!(of(7, 3), [1, 3, 5]);
        assert_eq!(
            Strategy::Spread.targets(9, 9, ""),
            [Run { skip: 0, take: 9 }]
        );
        // 5/6, 15/6, 25/6: 0, 2, 4 of 5
        assert_eq!(
            Strategy::Spread.targets(5, 3, ""),
            [
                Run { skip: 0, take: 1 },
                Run { skip: 1, take: 1 },
                Run { skip: 1, take: 1 }
            ]
        );
        assert_eq!(Strategy::Head.targets(9, 4, ""), [Run { skip: 0, take: 4 }]);
    }

    /// Reference values of the generator and the hash, as their authors publish them.
    #[test]
    fn generator_and_hash_are_the_published_ones() {
        let mut draws = SplitMix64(1234567);
        let first: Vec<u64> = (0..3).map(|_| draws.draw()).collect();
        assert_eq!(
            first,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423
            ]
        );
        assert_eq!(fnv1a("".bytes()), 0xCBF29CE484222325);
        assert_eq!(fnv1a("foobar".bytes()), 0x85944171F73967E8);
    }

    #[test]
    fn seeds_and_paths_draw_different_positions() {
        let of = |seed, path: &str| positions(&Strategy::Seeded { seed }.targets(1000, 100, path));
        assert_eq!(of(1, "graph.initializer[0]"), of(1, "graph.initializer[0]"));
        assert_ne!(of(1, "graph.initializer[0]"), of(2, "graph.initializer[0]"));
        assert_ne!(of(1, "graph.initializer[0]"), of(1, "graph.initializer[1]"));
        // Roughly uniform: each tenth of the tensor gets some, none gets half.
        let drawn = of(3, "graph.initializer[7]");
        for tenth in 0..10u64 {
            let here = drawn.iter().filter(|&&s| s / 100 == tenth).count();
            assert!((1..50).contains(&here), "{here} of 100 in tenth {tenth}");
        }
    }

    #[test]
    fn every_strategy_takes_k_distinct_positions_in_well_formed_runs() {
        let sizes = (1..70).chain([127, 128, 1000, 4095, 4096]);
        for n in sizes {
            for k in (0..=n.min(70)).chain([n / 2, n - 1, n]) {
                for strategy in [
                    Strategy::Spread,
                    Strategy::Head,
                    Strategy::Seeded { seed: n },
                ] {
                    let runs = strategy.targets(n, k, "graph.initializer[3]");
                    let positions = positions(&runs);
                    assert_eq!(positions.len() as u64, k, "{strategy:?} {k} of {n}");
                    assert!(positions.is_sorted_by(|a, b| a < b));
                    assert!(positions.last().is_none_or(|&last| last < n));
                    assert!(runs.iter().all(|run| run.take >= 1));
                    assert!(runs.iter().skip(1).all(|run| run.skip >= 1));
                    if strategy == Strategy::Spread {
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
    }
}
