//! Cuts weight tensors into subsequences with equal numbers of elements.

use crate::position::Run;

/// The least bytes of a subsequence, if the tensor has that many.
pub const MIN_SUBSEQUENCE_BYTES: u64 = 64;

/// The most subsequences of a tensor.
pub const MAX_SUBSEQUENCES: u64 = 4096;

/// Bytes of a subsequence that is chosen by score, unless the policy says otherwise.
pub const DEFAULT_UNIT_BYTES: u64 = 256;

/// Bytes of a subsequence of a recurrent layer that is chosen by score, unless the policy says
/// otherwise.
pub const RECURRENT_UNIT_BYTES: u64 = 1024;

/// The bytes that a subsequence chosen by score may have.
pub const UNIT_BYTES: std::ops::RangeInclusive<u64> = 64..=1024;

/// The least number of groups; with fewer, the next axis is counted in.
const MIN_GROUPS: u64 = 64;

/// The cut of one tensor: subsequence `s` holds the elements `[s * unit, (s + 1) * unit)`; the last
/// one may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Elements in a subsequence.
    pub unit: u64,
    /// Number of subsequences.
    pub n: u64,
    n_elements: u64,
    element_bits: u64,
}

impl Cut {
    /// Cuts a tensor of shape `dims`, with at least one element.
    ///
    /// A subsequence is a whole number of groups of the leading axis. If that axis is shorter than
    /// 64, the next axes are counted in (an LSTM's W `[1, 4 * hidden, input]` is cut by gates'
    /// rows), so that a subsequence stays a small part of the tensor. `unit * element_bits` is a
    /// multiple of 8.
    pub fn new(dims: &[u64], element_bits: u32) -> Cut {
        let element_bits = u64::from(element_bits.max(1));
        let n_elements: u64 = dims.iter().product();
        let mut n_groups = 1;
        for dim in dims {
            if n_groups >= MIN_GROUPS {
                break;
            }
            n_groups *= dim;
        }
        let group = n_elements / n_groups.max(1);
        // The number of groups that together fill whole bytes.
        let step = 8 / gcd(8, (group % 8) * (element_bits % 8));
        let wanted = (MIN_SUBSEQUENCE_BYTES * 8)
            .div_ceil((group * element_bits).max(1))
            .max(n_groups.div_ceil(MAX_SUBSEQUENCES));
        // With one subsequence, the unit is the tensor, rounded up to whole bytes.
        let whole = n_elements.next_multiple_of(8 / gcd(8, element_bits % 8));
        let unit = (wanted.next_multiple_of(step) * group).min(whole).max(1);
        Cut {
            unit,
            n: n_elements.div_ceil(unit),
            n_elements,
            element_bits,
        }
    }

    /// Cuts `n_elements` into subsequences of `unit_bytes` each, whatever their shape.
    pub fn flat(n_elements: u64, element_bits: u32, unit_bytes: u64) -> Cut {
        let element_bits = u64::from(element_bits.max(1));
        let step = 8 / gcd(8, element_bits % 8);
        let whole = n_elements.next_multiple_of(step);
        let wanted = (unit_bytes * 8 / element_bits).next_multiple_of(step);
        let unit = wanted.min(whole).max(1);
        Cut {
            unit,
            n: n_elements.div_ceil(unit),
            n_elements,
            element_bits,
        }
    }

    /// Returns the bytes of every subsequence except the last.
    pub fn unit_bytes(&self) -> u64 {
        self.unit * self.element_bits / 8
    }

    /// Returns the number of subsequences for `volume` bytes: `ceil(volume / unit_bytes)`, at most
    /// all.
    pub fn n_targets(&self, volume: u64) -> u64 {
        volume.div_ceil(self.unit_bytes().max(1)).min(self.n)
    }

    /// Returns the bytes in the subsequences of `targets`.
    pub fn target_bytes(&self, targets: &[Run]) -> u64 {
        let (mut end, mut count) = (0, 0);
        for run in targets {
            end += run.skip + run.take;
            count += run.take;
        }
        // All but the last have the same length.
        match count.checked_sub(1) {
            None => 0,
            Some(others) if end == self.n => others * self.unit_bytes() + self.bytes(self.n - 1, 1),
            Some(_) => count * self.unit_bytes(),
        }
    }

    /// Returns the bytes in the subsequences `[first, first + count)`.
    pub fn bytes(&self, first: u64, count: u64) -> u64 {
        let at = |subsequence: u64| (subsequence * self.unit).min(self.n_elements);
        (at(first + count) * self.element_bits).div_ceil(8) - at(first) * self.element_bits / 8
    }
}

/// Returns the number of subsequences of a tensor of shape `dims`, with at least one element.
pub(crate) fn n_subsequences(dims: &[u64], element_bits: u32) -> u64 {
    Cut::new(dims, element_bits).n
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The most subsequences, over all tensors, to choose from by score: 1 GiB in units of 256 bytes.
/// Larger models get larger units.
pub(crate) const MAX_UNITS: u64 = 1 << 22;

/// Returns the bytes of a subsequence in a model with `weight_bytes` of weights: `wanted`, or more
/// for a large model.
pub fn unit_bytes(wanted: u64, weight_bytes: u64) -> u64 {
    wanted.max(weight_bytes.div_ceil(MAX_UNITS).next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_worked_by_hand() {
        let cut = |dims: &[u64], bits| {
            let cut = Cut::new(dims, bits);
            (cut.unit, cut.n)
        };
        // 64 filters of 3 * 7 * 7 floats, 588 bytes each: one filter a subsequence.
        assert_eq!(cut(&[64, 3, 7, 7], 32), (147, 64));
        // 8 filters are fewer than 64: [8, 1, 5] is 40, [8, 1, 5, 5] is 200 single floats; 16 make
        // 64 bytes.
        assert_eq!(cut(&[8, 1, 5, 5], 32), (16, 13));
        // LSTM: [1, 512] groups of 128 floats.
        assert_eq!(cut(&[1, 512, 128], 32), (128, 512));
        // An embedding of 30,000 rows of 32 halves, 64 bytes: 30,000 / 4096 needs 8 rows together.
        assert_eq!(cut(&[30_000, 32], 16), (256, 3750));
        // A bias of 10 floats, a scalar: one subsequence, no longer than the tensor.
        assert_eq!(cut(&[10], 32), (10, 1));
        assert_eq!(cut(&[], 32), (1, 1));
        // 128 rows of 33 4-bit values, 16.5 bytes each: 64 bytes need 4 rows, whole bytes even
        // numbers.
        assert_eq!(cut(&[128, 33], 4), (132, 32));
        // 2-bit values, 3 a row: rows begin on whole bytes every 4; 64 bytes need 86, so 88.
        assert_eq!(cut(&[100, 3], 2), (264, 2));
        // 7 4-bit values fill 3.5 bytes: the unit is 4 whole bytes.
        assert_eq!(cut(&[7], 4), (8, 1));
    }

    #[test]
    fn every_cut_is_whole_bounded_and_fine_enough() {
        let dims = [1, 2, 3, 5, 7, 31, 63, 64, 65, 127, 1000, 4096, 4097, 50_001];
        for bits in [2u32, 4, 6, 8, 16, 32, 64, 128] {
            for a in dims {
                for b in dims {
                    for c in [1, 3, 9, 77] {
                        check(&[a, b, c], bits);
                    }
                }
                check(&[a], bits);
            }
        }
    }

    fn check(dims: &[u64], bits: u32) {
        let cut = Cut::new(dims, bits);
        let n_elements: u64 = dims.iter().product();
        let bytes = (n_elements * u64::from(bits)).div_ceil(8);
        assert_eq!(cut.unit * u64::from(bits) % 8, 0, "{dims:?} of {bits} bits");
        assert_eq!(cut.n, n_elements.div_ceil(cut.unit));
        assert!(cut.n <= MAX_SUBSEQUENCES);
        assert!(cut.n == 1 || cut.unit_bytes() >= MIN_SUBSEQUENCE_BYTES);
        assert_eq!(cut.bytes(0, cut.n), bytes);
        let by_one: u64 = (0..cut.n).map(|s| cut.bytes(s, 1)).sum();
        assert_eq!(by_one, bytes, "{dims:?} of {bits} bits");
        assert_eq!(cut.n_targets(0), 0);
        assert_eq!(cut.n_targets(bytes), cut.n);
        let runs = |pairs: &[(u64, u64)]| {
            let runs = pairs.iter().map(|&(skip, take)| Run { skip, take });
            cut.target_bytes(&runs.collect::<Vec<_>>())
        };
        assert_eq!((runs(&[]), runs(&[(0, cut.n)])), (0, bytes));
        if cut.n >= 4 {
            let (last, first) = (cut.bytes(cut.n - 1, 1), cut.bytes(0, 1));
            assert_eq!(
                runs(&[(1, 1), (1, cut.n - 3)]),
                bytes - first - cut.bytes(2, 1)
            );
            assert_eq!(runs(&[(1, 1), (cut.n - 3, 1)]), first + last);
            assert_eq!(runs(&[(0, cut.n - 1)]), bytes - last);
        }
        for volume in [1, bytes / 7, bytes / 2, bytes.saturating_sub(1)] {
            let k = cut.n_targets(volume);
            assert!(k <= cut.n && k * cut.unit_bytes() >= volume);
            assert!(k == 0 || (k - 1) * cut.unit_bytes() < volume);
        }
    }
}
