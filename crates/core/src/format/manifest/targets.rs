//! Which subsequences of a tensor are encrypted, and for which tier: one string per tier in the
//! manifest.

use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::format::manifest::json::{self, MAX_INTEGER};
use crate::format::tiers::MAX_TIERS;

/// Bits of a number in a byte of LEB128.
const BITS: u32 = 7;

/// The encrypted subsequences of a tensor.
///
/// Derefs to the runs of all tiers together: `[skip, take, skip, take, ...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    pub(crate) runs: Vec<u64>,
    /// The tier of each target, in ascending order of targets; neighbouring runs have different
    /// tiers. Empty if there is one tier.
    pub(crate) tiers: Vec<TierRun>,
    pub(crate) n_tiers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TierRun {
    /// The tier, counted from 1.
    pub(crate) tier: u8,
    pub(crate) take: u64,
}

impl Targets {
    pub(crate) fn highest_tier(&self) -> u8 {
        self.tiers.iter().map(|run| run.tier).max().unwrap_or(1)
    }

    /// The runs as `(first, count)`.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let (runs, _) = self.runs.as_chunks::<2>();
        let mut next = 0u64;
        runs.iter().map(move |&[skip, take]| {
            let first = next.saturating_add(skip);
            next = first.saturating_add(take);
            (first, take)
        })
    }

    /// Calls `take` with each run as `(first, count)` and its tier, cut where the tier changes.
    pub(super) fn by_tier(&self, mut take: impl FnMut((u64, u64), u8)) {
        let mut tiers = self.tiers.iter().copied();
        let only = TierRun {
            tier: 1,
            take: u64::MAX,
        };
        let mut now = tiers.next().unwrap_or(only);
        for (mut first, mut left) in self.runs() {
            while left > 0 {
                if now.take == 0 {
                    // The tiers' counts add up to the number of targets.
                    let Some(next) = tiers.next() else { return };
                    now = next;
                }
                let n = now.take.min(left);
                take((first, n), now.tier);
                (first, left, now.take) = (first + n, left - n, now.take - n);
            }
        }
    }

    fn text(&self, tier: u8) -> String {
        if self.n_tiers == 1 {
            return STANDARD.encode(encode(&self.runs));
        }
        let (mut numbers, mut end) = (Vec::new(), 0);
        self.by_tier(|(first, count), of| {
            if of == tier {
                numbers.extend([first - end, count]);
                end = first + count;
            }
        });
        STANDARD.encode(encode(&numbers))
    }

    /// Joins one list of runs for each tier, the least first.
    fn of_tiers(mut lists: Vec<Vec<u64>>) -> Result<Targets, &'static str> {
        let n_tiers = lists.len() as u8;
        if let [only] = &mut lists[..] {
            let runs = std::mem::take(only);
            return Ok(Targets {
                runs,
                tiers: Vec::new(),
                n_tiers,
            });
        }
        let mut all = Vec::new();
        for (tier, numbers) in (1..).zip(&lists) {
            let mut end = 0;
            for [skip, take] in numbers.as_chunks::<2>().0 {
                all.push((end + skip, *take, tier));
                end += skip + take;
            }
        }
        all.sort_unstable();
        let (mut runs, mut tiers, mut end): (Vec<u64>, Vec<TierRun>, u64) = Default::default();
        for (first, take, tier) in all {
            let skip = first
                .checked_sub(end)
                .ok_or("targets of two tiers are the same")?;
            match runs.last_mut() {
                Some(before) if skip == 0 => *before += take,
                _ => runs.extend([skip, take]),
            }
            match tiers.last_mut() {
                Some(before) if before.tier == tier => before.take += take,
                _ => tiers.push(TierRun { tier, take }),
            }
            end = first + take;
        }
        Ok(Targets {
            runs,
            tiers,
            n_tiers,
        })
    }
}

impl Deref for Targets {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.runs
    }
}

impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(self.n_tiers.into()))?;
        (1..=self.n_tiers).try_for_each(|tier| array.serialize_element(&self.text(tier)))?;
        array.end()
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Targets, D::Error> {
        let texts = json::texts_up_to(MAX_TIERS, deserializer)?;
        let lists = texts
            .iter()
            .map(|text| runs(text))
            .collect::<Result<_, _>>();
        lists.and_then(Targets::of_tiers).map_err(D::Error::custom)
    }
}

/// Decodes the string of a tier to `[skip, take, ...]`. Every run has a target, two runs have a gap
/// between them, and their sum is an integer that every JSON reader keeps exactly.
fn runs(text: &str) -> Result<Vec<u64>, &'static str> {
    let numbers = STANDARD.decode(text).ok().and_then(|bytes| decode(&bytes));
    let numbers = numbers.ok_or("targets are not base64 of LEB128")?;
    if !numbers.len().is_multiple_of(2) {
        return Err("targets are not runs of skip and take");
    }
    if numbers.iter().skip(1).any(|&number| number == 0) {
        return Err("targets have an empty run");
    }
    let mut sum = numbers.iter();
    match sum.try_fold(0u64, |sum, &number| sum.checked_add(number)) {
        Some(..=MAX_INTEGER) => Ok(numbers),
        _ => Err("targets overflow"),
    }
}

/// Encodes numbers in LEB128 (DWARF 5, section 7.6): 7 bits a byte, the lowest first. The highest
/// bit is set in every byte except a number's last.
fn encode(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len() * 2);
    for &number in numbers {
        let mut rest = number;
        while rest >> BITS > 0 {
            bytes.push(rest as u8 | 1 << BITS);
            rest >>= BITS;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// Decodes the numbers in `bytes`. Returns `None` for a number that is cut off, exceeds 2^63 - 1,
/// or is longer than necessary: a list of numbers has one encoding.
fn decode(bytes: &[u8]) -> Option<Vec<u64>> {
    let n = bytes.iter().filter(|&&byte| byte >> BITS == 0).count();
    let mut numbers = Vec::with_capacity(n);
    let (mut number, mut shift) = (0u64, 0);
    for &byte in bytes {
        if shift >= 9 * BITS {
            return None;
        }
        number |= u64::from(byte & !(1 << BITS)) << shift;
        if byte >> BITS == 1 {
            shift += BITS;
            continue;
        }
        if byte == 0 && shift > 0 {
            return None;
        }
        numbers.push(number);
        (number, shift) = (0, 0);
    }
    (shift == 0).then_some(numbers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_one_way() {
        let numbers = [0, 1, 127, 128, 300, 16383, 16384, (1 << 53) - 1];
        let bytes = encode(&numbers);
        // 300 is 10 0101100.
        assert_eq!(bytes[..6], [0, 1, 127, 0x80, 1, 0xAC]);
        assert_eq!(decode(&bytes).unwrap(), numbers);
        assert_eq!(decode(&[]).unwrap(), [0u64; 0]);
        for wrong in [
            &[0x80][..],
            &[0x80, 0],
            &[1, 0xFF],
            &[0xFF; 10],
            &[0xAC, 0x82, 0x00],
        ] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
        let largest = [[0xFF; 8].as_slice(), &[0x7F]].concat();
        assert_eq!(decode(&largest).unwrap(), [(1 << 63) - 1]);
    }

    #[test]
    fn targets_of_one_tier_are_one_string() {
        let targets: Targets = serde_json::from_str("[\"AAHIAQE=\"]").unwrap();
        assert_eq!(*targets, [0, 1, 200, 1]);
        assert_eq!((targets.n_tiers, targets.runs().count()), (1, 2));
        assert_eq!(serde_json::to_string(&targets).unwrap(), "[\"AAHIAQE=\"]");
        for wrong in [
            "[\"AAHIAQE\"]",
            "[\"AAHIAQF=\"]",
            "[\"gA==\"]",
            "[\"A A=\"]",
            // An odd number of numbers, an empty take, an empty skip, a sum of 2^53.
            "[\"AA==\"]",
            "[\"AAA=\"]",
            "[\"AAEAAQ==\"]",
            "[\"Af////////8P\"]",
            "\"AAHIAQE=\"",
            "[0,1,200,1]",
            "[null]",
            "null",
            "{}",
        ] {
            assert!(serde_json::from_str::<Targets>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_tier_has_a_string() {
        // Tier 1: 0 and 2; tier 2: 1 and 5; tier 3: none.
        let text = "[\"AAEBAQ==\",\"AQEDAQ==\",\"\"]";
        let targets: Targets = serde_json::from_str(text).unwrap();
        assert_eq!(*targets, [0, 3, 2, 1]);
        assert_eq!(targets.n_tiers, 3);
        let mut pieces = Vec::new();
        targets.by_tier(|run, tier| pieces.push((run, tier)));
        assert_eq!(pieces, [((0, 1), 1), ((1, 1), 2), ((2, 1), 1), ((5, 1), 2)]);
        assert_eq!(serde_json::to_string(&targets).unwrap(), text);
        // Target 1 of two tiers.
        let twice = "[\"AAI=\",\"AQE=\"]";
        assert!(serde_json::from_str::<Targets>(twice).is_err());
        let too_many = format!("[{}\"\"]", "\"\",".repeat(MAX_TIERS));
        assert!(serde_json::from_str::<Targets>(&too_many).is_err());
    }
}
