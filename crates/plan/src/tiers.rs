//! Editions of one model: which tier opens which targets, and how higher tiers' targets are
//! encrypted.

use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::{Model, Tensor};
use onnxseal_onnx::proto::tensor_proto::DataType;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::choose::{Candidate, best};
use crate::classify::Classified;
use crate::error::Error;
use crate::roles::{Role, role};

/// The most tiers that a model may have.
const MAX_TIERS: usize = 16;

/// The most characters of a tier's name.
const MAX_NAME_CHARS: usize = 64;

/// The word for "any tier that the key opens", which no tier may have as its name.
const ANY_TIER: &str = "any";

/// One edition of a model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Its name.
    pub name: String,
    /// The share of the encrypted bytes that it opens, above 0; 1 for the last tier.
    #[serde(default = "everything")]
    pub share: f64,
}

fn everything() -> f64 {
    1.0
}

/// How the targets of a tensor are encrypted for tiers above the first. The first tier always uses
/// `Bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// All bytes, whatever values result. A reader without the tier puts a constant in their place.
    #[default]
    Bytes,
    /// Only sign and mantissa. Numbers stay finite, and exponents stay visible.
    Mask,
    /// Elements change places with each other. Their distribution stays visible.
    Shuffle,
}

/// Consecutive targets of one tier, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierRun {
    /// The tier that opens them, counted from 1.
    pub tier: u8,
    pub take: u64,
}

/// Reads the tiers of a policy.
pub(crate) fn read<'de, D: Deserializer<'de>>(tiers: D) -> Result<Vec<Tier>, D::Error> {
    check(Vec::deserialize(tiers)?).map_err(D::Error::custom)
}

/// Checks the tiers of a policy.
pub(crate) fn check(tiers: Vec<Tier>) -> Result<Vec<Tier>, Error> {
    let wrong = |what: String| Err(Error::Policy(what));
    let n = tiers.len();
    if !(2..=MAX_TIERS).contains(&n) {
        return wrong(format!(
            "{n} tiers: expected 2 to {MAX_TIERS}, the least first"
        ));
    }
    let mut below = 0.0;
    for (i, Tier { name, share }) in tiers.iter().enumerate() {
        if !is_tier_name(name) {
            return wrong(format!(
                "tier name {name:?}: expected 1 to {MAX_NAME_CHARS} of a-z, 0-9, '.', '_' and '-', not {ANY_TIER:?}"
            ));
        }
        if tiers[..i].iter().any(|other| other.name == *name) {
            return wrong(format!("two tiers are called {name:?}"));
        }
        let is_last = i + 1 == n;
        if is_last && *share != 1.0 {
            return wrong(format!(
                "tier {name:?} is the last and opens everything: leave its share out"
            ));
        }
        // NaN is neither.
        let fits = *share > below && *share < 1.0;
        if !is_last && !fits {
            return wrong(format!(
                "tier {name:?} has share {share}: expected more than {below} and less than 1"
            ));
        }
        below = *share;
    }
    Ok(tiers)
}

/// Returns whether a tier may have this name.
fn is_tier_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = name.bytes();
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && bytes.all(|byte| is_plain(byte) || b"._-".contains(&byte))
        && name != ANY_TIER
}

/// Assigns each of `candidates` to a tier: the highest scores go to the least tier, up to its share
/// of all bytes, and at least `least` bytes. Returns `(tensor, index, tier)`, sorted by tensor and
/// index.
pub(crate) fn assign(
    mut candidates: Vec<Candidate>,
    tiers: &[Tier],
    least: u64,
) -> Vec<(u32, u32, u8)> {
    let bytes_of = |part: &[Candidate]| part.iter().map(|c| u64::from(c.bytes)).sum::<u64>();
    let total = bytes_of(&candidates);
    let mut assigned = Vec::with_capacity(candidates.len());
    let (mut rest, mut taken) = (&mut candidates[..], 0);
    for (tier, number) in tiers.iter().zip(1..) {
        let wanted = ((tier.share * total as f64).round() as u64).max(least);
        let n = if number as usize == tiers.len() {
            rest.len()
        } else {
            best(rest, wanted.saturating_sub(taken))
        };
        let (of_tier, higher) = rest.split_at_mut(n);
        taken += bytes_of(of_tier);
        assigned.extend(of_tier.iter().map(|c| (c.tensor, c.index, number)));
        rest = higher;
    }
    assigned.sort_unstable();
    assigned
}

/// Joins the tiers of a tensor's targets, in order, into runs.
pub(crate) fn runs(tiers: impl Iterator<Item = u8>) -> Vec<TierRun> {
    let mut runs: Vec<TierRun> = Vec::new();
    for tier in tiers {
        match runs.last_mut() {
            Some(run) if run.tier == tier => run.take += 1,
            _ => runs.push(TierRun { tier, take: 1 }),
        }
    }
    runs
}

/// Returns the mode of a tensor's targets, given the mode `wanted` for its operator's type.
pub(crate) fn mode(
    wanted: Mode,
    model: &Model<'_>,
    tensor: &Tensor<'_>,
    known: &Classified<'_>,
) -> Mode {
    let bits = element_bits(tensor.data_type).unwrap_or(0);
    match (wanted, tensor.data_type) {
        (Mode::Bytes, _) => Mode::Bytes,
        _ if !(bits.is_power_of_two() && bits <= 128) => Mode::Bytes,
        (Mode::Shuffle, _) => Mode::Shuffle,
        // Variances and block scales are never negative, and scrambled signs would make some so.
        (Mode::Mask, _)
            if roles(model, tensor, known)
                .any(|role| matches!(role, Role::Variance | Role::BlockScale)) =>
        {
            Mode::Bytes
        }
        (
            Mode::Mask,
            DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double,
        ) => Mode::Mask,
        (Mode::Mask, _) => Mode::Shuffle,
    }
}

/// Returns the bytes that replace an element a tier lacks; empty for zeros. For elements of less
/// than a byte, a byte of them.
pub(crate) fn fill(model: &Model<'_>, tensor: &Tensor<'_>, known: &Classified<'_>) -> Vec<u8> {
    let mut values = roles(model, tensor, known).filter_map(|role| match role {
        Role::Weight | Role::Bias | Role::Mean => None,
        // A scale of 0 would silence the layer, and a variance of 0 would blow up its outputs.
        Role::Scale | Role::Variance => Some(1.0f64),
        // Makes the largest 8-bit number about 1.
        Role::BlockScale => Some(1.0 / 128.0),
    });
    let value = values.next();
    match (tensor.data_type, value) {
        (DataType::Float, Some(value)) => (value as f32).to_le_bytes().to_vec(),
        (DataType::Double, Some(value)) => value.to_le_bytes().to_vec(),
        // Only the exponent of a power of two counts, so fewer bits keep its value.
        (DataType::Bfloat16, Some(value)) => (value as f32).to_le_bytes()[2..].to_vec(),
        (DataType::Float16, Some(value)) => {
            let exponent = value.log2() as i32 + 15;
            ((exponent as u16) << 10).to_le_bytes().to_vec()
        }
        // The zero of unsigned quantised weights is near the middle of their range.
        (DataType::Uint8, _) => vec![0x80],
        (DataType::Uint4, _) => vec![0x88],
        (DataType::Uint2, _) => vec![0xAA],
        (DataType::Uint16, _) => 0x8000u16.to_le_bytes().to_vec(),
        _ => Vec::new(),
    }
}

/// Returns the roles of a tensor in the operators that read it.
fn roles<'m>(
    model: &'m Model<'_>,
    tensor: &'m Tensor<'_>,
    known: &'m Classified<'_>,
) -> impl Iterator<Item = Role> + 'm {
    let consumers = known.consumers.iter();
    consumers.filter_map(|consumer| {
        let node = model.nodes.get(consumer.node.index())?;
        Some(role(node, consumer.slot, &tensor.dims))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tiers(shares: &[f64]) -> Vec<Tier> {
        let tier = |(i, &share): (usize, &f64)| Tier {
            name: format!("t{i}"),
            share,
        };
        shares.iter().enumerate().map(tier).collect()
    }

    #[test]
    fn the_best_go_to_the_least_tier() {
        let candidate = |index: u32, score: f64| Candidate {
            score,
            bytes: 10,
            tensor: 0,
            index,
        };
        let scores = [0.1, 0.9, 0.5, 0.8, 0.3, 0.2, 0.7, 0.4, 0.6, 0.0];
        let all = || (0..).zip(scores).map(|(i, s)| candidate(i, s)).collect();
        let tiers_of = |shares: &[f64]| {
            let assigned = assign(all(), &tiers(shares), 0);
            assigned
                .iter()
                .map(|&(_, _, tier)| tier)
                .collect::<Vec<u8>>()
        };
        assert_eq!(tiers_of(&[0.3, 1.0]), [2, 1, 2, 1, 2, 2, 1, 2, 2, 2]);
        assert_eq!(tiers_of(&[0.2, 0.5, 1.0]), [3, 1, 2, 1, 3, 3, 2, 3, 2, 3]);
        // 0.31 of 100 bytes is one more subsequence, and the next tier has one less.
        assert_eq!(tiers_of(&[0.31, 0.4, 1.0]), [3, 1, 3, 1, 3, 3, 1, 3, 1, 3]);
        assert_eq!(assign(Vec::new(), &tiers(&[0.5, 1.0]), 0), []);
        // The best of at least so many bytes.
        let assigned = assign(all(), &tiers(&[0.01, 1.0]), 1 << 40);
        assert!(assigned.iter().all(|(_, _, tier)| *tier == 1));
    }

    #[test]
    fn runs_join_equal_tiers() {
        let run = |tier, take| TierRun { tier, take };
        let found = runs([1, 1, 3, 2, 2, 2].into_iter());
        assert_eq!(found, [run(1, 2), run(3, 1), run(2, 3)]);
        assert!(runs(std::iter::empty()).is_empty());
    }

    #[test]
    fn tiers_that_make_no_sense_are_refused() {
        check(tiers(&[0.5, 1.0])).unwrap();
        for shares in [
            &[1.0][..],
            &[0.5, 0.5, 1.0],
            &[0.6, 0.5, 1.0],
            &[0.0, 1.0],
            &[0.5, 0.9],
            &[0.5, 1.0, 1.0],
            &[f64::NAN, 1.0],
        ] {
            assert!(check(tiers(shares)).is_err(), "{shares:?}");
        }
        for name in ["", "any", "Trial", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_tier_name(name), "{name:?}");
        }
        for name in ["trial", "t-1", "1.0_b", &"x".repeat(64)] {
            assert!(is_tier_name(name), "{name:?}");
        }
        let mut twice = tiers(&[0.5, 1.0]);
        twice[1].name = "t0".into();
        assert!(check(twice).is_err());
    }
}
