//! Tiers: the editions of one model, and the wrapped keys of each.

use onnxseal_crypto::wrap::{Identities, check_wrapped};
use onnxseal_crypto::{self as crypto, DataKey};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::manifest::Targets;

/// The edition that a caller accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edition<'a> {
    /// The original, and nothing less.
    #[default]
    Whole,
    /// The tier of this name, by a key of that tier or of a higher one. It is an error for a model without
    /// tiers.
    Tier(&'a str),
    /// The highest tier that the identities open, whichever it is.
    Any,
}

/// Which edition of a model was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its tier; `None` if the model has one edition only.
    pub tier: Option<String>,
    /// Whether it is the original, and not the edition of a lower tier.
    pub is_original: bool,
}

impl<'a> Edition<'a> {
    /// The edition that a text names: a tier, or `any`.
    pub fn named(text: &'a str) -> Edition<'a> {
        match text {
            ANY => Edition::Any,
            name => Edition::Tier(name),
        }
    }
}

/// The word for [`Edition::Any`]. No tier has this name.
const ANY: &str = "any";

/// Whether a tier may have this name: 1 to 64 of `a` to `z`, `0` to `9`, `.`, `_` and `-`, and not `any`.
pub(crate) fn is_tier_name(name: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain) && name != ANY
}

/// Which tier each target of a tensor belongs to, as runs: `[tier, take, tier, take, ...]`. No runs in a
/// model without tiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierRuns(Vec<u64>);

impl TierRuns {
    /// Tiers as runs.
    #[cfg(feature = "protect")]
    pub(crate) fn new(runs: Vec<u64>) -> TierRuns {
        TierRuns(runs)
    }

    /// Whether the model has no tiers.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers, as they are written.
    pub(crate) fn numbers(&self) -> &[u64] {
        &self.0
    }

    /// The runs: `(tier, take)`.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        let (runs, _) = self.0.as_chunks::<2>();
        runs.iter().map(|&[tier, take]| (tier as u8, take))
    }

    /// The highest tier; 0 in a model without tiers.
    #[cfg(feature = "protect")]
    pub(crate) fn highest(&self) -> u8 {
        self.iter().map(|(tier, _)| tier).max().unwrap_or(0)
    }

    /// Checks the rules for targets of which there are `n_targets`, in a model of `tiers` tiers.
    pub(super) fn check(&self, n_targets: u64, tiers: u8) -> Result<(), String> {
        let (runs, rest) = self.0.as_chunks::<2>();
        let is_run = |[tier, take]: &[u64; 2]| (1..=tiers.into()).contains(tier) && *take > 0;
        if runs.is_empty() || !rest.is_empty() || !runs.iter().all(is_run) {
            return Err(format!(
                "tier is not runs of a tier from 1 to {tiers} and a number"
            ));
        }
        if runs.windows(2).any(|pair| pair[0][0] == pair[1][0]) {
            return Err("tier has two neighbouring runs of one tier".into());
        }
        let sum = runs
            .iter()
            .try_fold(0u64, |sum, run| sum.checked_add(run[1]));
        match sum == Some(n_targets) {
            true => Ok(()),
            false => Err(format!("tier is not for {n_targets} targets")),
        }
    }
}

impl Serialize for TierRuns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.is_empty() {
            true => serializer.serialize_u8(1),
            false => serializer.serialize_str(&Targets::compact(&self.0)),
        }
    }
}

impl<'de> Deserialize<'de> for TierRuns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TierRuns, D::Error> {
        struct Either;
        impl serde::de::Visitor<'_> for Either {
            type Value = TierRuns;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("1 or a string of base64")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<TierRuns, E> {
                match number {
                    1 => Ok(TierRuns::default()),
                    other => Err(E::custom(format_args!("tier {other} is not supported"))),
                }
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TierRuns, E> {
                let numbers = Targets::from_compact(text);
                let numbers = numbers.filter(|numbers| !numbers.is_empty());
                (numbers.map(TierRuns)).ok_or_else(|| E::custom("tier is not base64 of LEB128"))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The element that stands in place of one that a tier lacks, as bytes of the file; none for zeros. In JSON
/// hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fill(Vec<u8>);

impl Fill {
    /// The element of these bytes.
    #[cfg(feature = "protect")]
    pub(crate) fn new(bytes: Vec<u8>) -> Fill {
        Fill(bytes)
    }

    /// The bytes of the element.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Fill {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = self.0.iter().map(|byte| format!("{byte:02x}"));
        serializer.serialize_str(&digits.collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Fill {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fill, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs
            .iter()
            .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?));
        let bytes: Option<Vec<u8>> = bytes.collect();
        let bytes = bytes.filter(|bytes| rest.is_empty() && bytes.iter().any(|&byte| byte != 0));
        let wrong = || D::Error::custom("fill is not hexadecimal digits of an element but 0");
        bytes.map(Fill).ok_or_else(wrong)
    }
}

/// The keys of all tiers, each wrapped to its recipients: armored age files. A model without tiers has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKeys {
    /// By tier, the least first. A tier may have no recipients.
    parts: Vec<Option<String>>,
}

impl WrappedKeys {
    /// The key of a model without tiers, or of every tier, the least first.
    #[cfg(feature = "protect")]
    pub(crate) fn new(parts: Vec<Option<String>>) -> WrappedKeys {
        WrappedKeys { parts }
    }

    /// Parses `onnxseal.key` of a model of `tiers` tiers.
    pub(crate) fn parse(text: &str, tiers: u8) -> Result<WrappedKeys, String> {
        if tiers == 1 {
            let parts = vec![Some(text.to_owned())];
            return Ok(WrappedKeys { parts });
        }
        let mut parts = vec![None; tiers.into()];
        let (mut rest, mut next) = (text, 0);
        while !rest.is_empty() {
            let line = |tier: usize| format!("tier {}\n", tier + 1);
            let tier = (next..parts.len()).find(|&tier| rest.starts_with(&line(tier)));
            let Some(tier) = tier else {
                return Err("onnxseal.key has no line \"tier N\" where one must be".into());
            };
            let part = &rest[line(tier).len()..];
            let end = part.find("\ntier ").map_or(part.len(), |end| end + 1);
            parts[tier] = Some(part[..end].to_owned());
            (rest, next) = (&part[end..], tier + 1);
        }
        match next {
            0 => Err("onnxseal.key wraps the key of no tier".into()),
            _ => Ok(WrappedKeys { parts }),
        }
    }

    /// The value of `onnxseal.key`.
    #[cfg(feature = "protect")]
    pub(crate) fn to_text(&self) -> String {
        match &self.parts[..] {
            [Some(only)] => only.clone(),
            parts => {
                let wrapped = (1..).zip(parts);
                let wrapped = wrapped.filter_map(|(tier, part)| Some((tier, part.as_ref()?)));
                wrapped
                    .map(|(tier, part)| format!("tier {tier}\n{part}"))
                    .collect()
            }
        }
    }

    /// The wrapped key of each tier, the least first.
    #[cfg(feature = "protect")]
    pub(crate) fn parts(&self) -> &[Option<String>] {
        &self.parts
    }

    /// Replaces the wrapped key of a tier, from 1.
    #[cfg(feature = "protect")]
    pub(crate) fn set(&mut self, tier: u8, wrapped: String) {
        if let Some(part) = self.parts.get_mut(usize::from(tier).saturating_sub(1)) {
            *part = Some(wrapped);
        }
    }

    /// The highest tier that one of `identities` opens, and its key.
    ///
    /// # Errors
    /// Those of [`Identities::unwrap`]. A tier is passed over only because no identity matches.
    pub(crate) fn unwrap(&self, identities: &Identities) -> Result<(u8, DataKey), crypto::Error> {
        if self.parts.len() > 1 {
            // Also those that no identity is tried on: nothing may hide between them.
            let mut parts = self.parts.iter().flatten();
            parts.try_for_each(|part| check_wrapped(part))?;
        }
        let mut kinds = Vec::new();
        let mut wrong = None;
        for (tier, part) in (1..=u8::MAX).zip(&self.parts).rev() {
            let Some(part) = part else { continue };
            match identities.unwrap(part) {
                Ok(key) => return Ok((tier, key)),
                Err(crypto::Error::NoMatchingKey { recipients }) => kinds.extend(recipients),
                Err(error @ crypto::Error::WrongPassphrase { .. }) => {
                    wrong.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(wrong.unwrap_or(crypto::Error::NoMatchingKey { recipients: kinds }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_keys_are_written_in_one_way() {
        let part = |text: &str| Some(text.to_owned());
        for parts in [
            vec![part("a\n"), part("b\nc\n")],
            vec![None, None, part("x\n")],
            vec![part("tears\ntie\n"), None, part("x\n")],
        ] {
            let keys = WrappedKeys::new(parts.clone());
            let text = keys.to_text();
            assert_eq!(WrappedKeys::parse(&text, parts.len() as u8).unwrap(), keys);
        }
        for wrong in [
            "",
            "a\n",
            "tier 0\na\n",
            "tier 01\na\n",
            "tier 4\na\n",
            "tier 2\na\ntier 1\nb\n",
            "tier 2\na\ntier 2\nb\n",
            " tier 1\na\n",
            "tier 1 \na\n",
            "Tier 1\na\n",
        ] {
            assert!(WrappedKeys::parse(wrong, 3).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn tiers_of_targets_obey_their_rules() {
        let check = |runs: &[u64]| TierRuns::new(runs.to_vec()).check(10, 3);
        check(&[1, 10]).unwrap();
        check(&[3, 4, 1, 1, 3, 5]).unwrap();
        for wrong in [
            &[][..],
            &[1],
            &[1, 9],
            &[1, 11],
            &[0, 10],
            &[4, 10],
            &[257, 10],
            &[1, 5, 1, 5],
            &[1, 10, 2, 0],
            &[1, u64::MAX, 2, 11],
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
