//! Apportions a type's budget of bytes over its operators.

/// Rounds `coefficient * bytes` to whole bytes.
pub(crate) fn budget(coefficient: f64, bytes: u64) -> u64 {
    // Exact for 0 and 1; between them, f64 is exact to half a byte up to 2^52 bytes.
    ((coefficient * bytes as f64).round() as u64).min(bytes)
}

/// Apportions `budget` bytes, at most the sum of `sizes`, over parts of these sizes: fills all
/// parts to one level; full ones stop, the others rise on. Bytes that do not divide go to the first
/// parts with room, one each.
pub(crate) fn equal(budget: u64, sizes: &[u64]) -> Vec<u64> {
    let mut shares = sizes.to_vec();
    let mut by_size: Vec<usize> = (0..sizes.len()).collect();
    by_size.sort_by_key(|&part| sizes[part]);
    let mut left = budget;
    for (rank, &part) in by_size.iter().enumerate() {
        let open = (by_size.len() - rank) as u64;
        let level = left / open;
        if sizes[part] > level {
            // All later parts are at least as large, so the open ones stop at this level.
            let mut odd_bytes = left % open;
            let mut open_parts = by_size[rank..].to_vec();
            open_parts.sort_unstable();
            for part in open_parts {
                let extra = odd_bytes.min(1);
                odd_bytes -= extra;
                shares[part] = level + extra;
            }
            return shares;
        }
        left -= sizes[part];
    }
    shares
}

/// Apportions `budget` bytes over parts of `sizes` bytes, at most 2^63 together: gives each part
/// its share by size, rounded down. Bytes left over go to the largest remainders, among equal ones
/// to the first (Hamilton's method).
pub(crate) fn proportional(budget: u64, sizes: &[u64]) -> Vec<u64> {
    let total: u128 = sizes.iter().map(|&size| u128::from(size)).sum();
    if total == 0 {
        return vec![0; sizes.len()];
    }
    let exact = |size: u64| u128::from(budget) * u128::from(size);
    let mut shares: Vec<u64> = sizes
        .iter()
        .map(|&size| (exact(size) / total) as u64)
        .collect();
    let left = budget - shares.iter().sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by_key(|&part| std::cmp::Reverse(exact(sizes[part]) % total));
    for &part in by_remainder.iter().take(left as usize) {
        shares[part] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_fills_to_one_level() {
        // Everything.
        assert_eq!(equal(9, &[3, 3, 3]), [3, 3, 3]);
        // 100 over 10, 100, 100: level 33 fills the first (10); 90 are left for two: 45 each.
        assert_eq!(equal(100, &[10, 100, 100]), [10, 45, 45]);
        // The shares do not depend on the file order.
        assert_eq!(equal(100, &[100, 10, 100]), [45, 10, 45]);
        // 101 over these: 91 for two, level 45, the odd byte to the first in file order.
        assert_eq!(equal(101, &[100, 10, 100]), [46, 10, 45]);
        // 70 over 5, 20, 60, 60: levels 17, then 65 / 3 = 21, then 45 / 2 = 22, odd byte first.
        assert_eq!(equal(70, &[60, 20, 5, 60]), [23, 20, 5, 22]);
        assert_eq!(equal(0, &[5, 0]), [0, 0]);
        assert!(equal(0, &[]).is_empty());
    }

    #[test]
    fn proportional_gives_left_over_bytes_to_the_largest_remainders() {
        // 10 over 1:1:1 is 3 1/3 each: equal remainders, so the first gets the tenth byte.
        assert_eq!(proportional(10, &[50, 50, 50]), [4, 3, 3]);
        // 7 over 10:20:30 is 1.17, 2.33, 3.5: the last has the largest remainder.
        assert_eq!(proportional(7, &[10, 20, 30]), [1, 2, 4]);
        // 5 over 3:7 is 1.5 and 3.5: equal remainders.
        assert_eq!(proportional(5, &[3, 7]), [2, 3]);
        assert_eq!(proportional(0, &[0, 0]), [0, 0]);
    }

    #[test]
    fn budgets_are_rounded_and_never_more_than_there_is() {
        assert_eq!(budget(0.0, 1000), 0);
        assert_eq!(budget(1.0, u64::from(u32::MAX)), u64::from(u32::MAX));
        assert_eq!(budget(1.0, 1 << 53), 1 << 53);
        assert_eq!(budget(0.25, 10), 3);
        assert_eq!(budget(0.15, 100), 15);
    }

    #[test]
    fn shares_sum_to_the_budget_and_fit_their_parts() {
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for round in 0..3000 {
            let n_parts = random(40) as usize + 1;
            let scale = 1 << (round % 30);
            let sizes: Vec<u64> = (0..n_parts).map(|_| random(scale + 1)).collect();
            let total: u64 = sizes.iter().sum();
            let budget = match round % 5 {
                0 => 0,
                1 => total,
                _ => random(total + 1),
            };
            for shares in [equal(budget, &sizes), proportional(budget, &sizes)] {
                assert_eq!(shares.iter().sum::<u64>(), budget);
                assert!(shares.iter().zip(&sizes).all(|(share, size)| share <= size));
            }
            // `equal` gives a part that is not full as much as any other, within one odd byte.
            let shares = equal(budget, &sizes);
            let most = shares.iter().max().copied().unwrap_or(0);
            for (share, size) in shares.iter().zip(&sizes) {
                assert!(share == size || share + 1 >= most);
            }
            // `proportional` stays within one byte of the exact share.
            for (share, size) in proportional(budget, &sizes).iter().zip(&sizes) {
                let exact = budget as f64 * *size as f64 / total.max(1) as f64;
                assert!((*share as f64 - exact).abs() < 1.0 + 1e-6);
            }
        }
    }
}
