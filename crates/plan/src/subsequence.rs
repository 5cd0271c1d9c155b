//! Cuts weight tensors into subsequences with equal numbers of elements.

use crate::error::Error;
use crate::position::Run;

/// Bytes of a subsequence that is chosen by score, unless the policy says otherwise.
pub(crate) const DEFAULT_UNIT_BYTES: u64 = 256;

/// Bytes of a subsequence of a recurrent layer that is chosen by score, unless the policy says
/// otherwise.
pub(crate) const RECURRENT_UNIT_BYTES: u64 = 1024;

/// The bytes that a subsequence chosen by score may have.
pub(crate) const UNIT_BYTES: std::ops::RangeInclusive<u64> = 64..=1024;

/// Fails unless `bytes` is a power of two from 64 to 1024.
pub fn check_unit_bytes(bytes: u64) -> Result<(), Error> {
    if UNIT_BYTES.contains(&bytes) && bytes.is_power_of_two() {
        return Ok(());
    }
    let what = format!("unit {bytes}: expected 64, 128, 256, 512 or 1024 bytes");
    Err(Error::Policy(what))
}

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
    /// Cuts `n_elements` into subsequences of `unit_bytes` each, whatever their shape.
    pub fn new(n_elements: u64, element_bits: u32, unit_bytes: u64) -> Cut {
        let element_bits = u64::from(element_bits.max(1));
        // The number of elements that fill whole bytes.
        let step = 8 >> element_bits.trailing_zeros().min(3);
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

    /// Returns the bytes in the subsequences of `targets`.
    pub fn target_bytes(&self, targets: &[Run]) -> u64 {
        let mut end = 0;
        let of_run = |run: &Run| {
            let first = end + run.skip;
            end = first + run.take;
            self.bytes(first, run.take)
        };
        targets.iter().map(of_run).sum()
    }

    /// Returns the bytes in the subsequences `[first, first + count)`.
    pub fn bytes(&self, first: u64, count: u64) -> u64 {
        let at = |subsequence: u64| (subsequence * self.unit).min(self.n_elements);
        (at(first + count) * self.element_bits).div_ceil(8) - at(first) * self.element_bits / 8
    }
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
        let cut = |n_elements, bits, unit_bytes| {
            let cut = Cut::new(n_elements, bits, unit_bytes);
            (cut.unit, cut.n)
        };
        assert_eq!(cut(9408, 32, 256), (64, 147));
        assert_eq!(cut(9409, 32, 256), (64, 148));
        // A bias of 10 floats, a scalar: one subsequence, no longer than the tensor.
        assert_eq!(cut(10, 32, 64), (10, 1));
        assert_eq!(cut(1, 32, 64), (1, 1));
        // 7 4-bit values fill 3.5 bytes: the unit is 4 whole bytes.
        assert_eq!(cut(7, 4, 64), (8, 1));
        // 85 1/3 values of 6 bits fill 64 bytes: whole bytes end every 4.
        assert_eq!(cut(1000, 6, 64), (88, 12));
    }

    #[test]
    fn every_cut_is_whole_and_has_all_bytes() {
        let sizes = [1, 2, 3, 7, 63, 64, 65, 127, 1000, 4096, 4097, 50_001];
        for bits in [2u32, 4, 6, 8, 16, 32, 64, 128] {
            for n_elements in sizes {
                for unit_bytes in [64, 256, 1024] {
                    check(n_elements, bits, unit_bytes);
                }
            }
        }
    }

    fn check(n_elements: u64, bits: u32, unit_bytes: u64) {
        let cut = Cut::new(n_elements, bits, unit_bytes);
        let bytes = (n_elements * u64::from(bits)).div_ceil(8);
        let told = format!("{n_elements} of {bits} bits in {unit_bytes}");
        assert_eq!(cut.unit * u64::from(bits) % 8, 0, "{told}");
        assert_eq!(cut.n, n_elements.div_ceil(cut.unit));
        assert!(cut.n == 1 || cut.unit_bytes() >= unit_bytes, "{told}");
        assert_eq!(cut.bytes(0, cut.n), bytes, "{told}");
        let by_one: u64 = (0..cut.n).map(|s| cut.bytes(s, 1)).sum();
        assert_eq!(by_one, bytes, "{told}");
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
    }
}
