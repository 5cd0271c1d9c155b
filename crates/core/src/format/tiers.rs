//! Tiers: the editions of one model, and the wrapped keys of each.

use std::path::Path;

use onnxseal_crypto::wrap::{Identities, check_wrapped};
use onnxseal_crypto::{self as crypto, DataKey};
use onnxseal_onnx::excerpt;
use onnxseal_onnx::tail::{self, Tail};

use crate::error::{Error, Result};

/// The edition that a caller accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edition<'a> {
    /// Only the original.
    #[default]
    Whole,
    /// The tier of this name, opened with a key of that tier or a higher one. A model without tiers
    /// is refused.
    Tier(&'a str),
    /// The highest tier that the identities open.
    Any,
}

/// The edition of a model that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedEdition {
    /// The tier; `None` if the model has one edition only.
    pub tier: Option<String>,
    /// Whether this edition is the original.
    pub is_original: bool,
}

impl<'a> Edition<'a> {
    /// Returns the edition that a text names: a tier, or `any`.
    pub fn named(text: &'a str) -> Edition<'a> {
        match text {
            ANY => Edition::Any,
            name => Edition::Tier(name),
        }
    }

    /// Returns the tier to open of the model at `path`, whose tiers have these names, for a caller who
    /// has the key of `key_tier`.
    pub(crate) fn tier_of(self, path: &Path, names: &[String], key_tier: u8) -> Result<u8> {
        let name_of = |tier: u8| {
            let name = names.get(usize::from(tier).saturating_sub(1));
            name.cloned().unwrap_or_default()
        };
        let wanted = match self {
            Edition::Whole => names.len().max(1) as u8,
            Edition::Any => key_tier,
            Edition::Tier(name) => match names.iter().position(|of| of == name) {
                Some(index) => index as u8 + 1,
                None => {
                    return Err(Error::NoSuchTier {
                        path: path.to_owned(),
                        wanted: excerpt(name),
                        tiers: names.to_vec(),
                    });
                }
            },
        };
        if wanted > key_tier {
            return Err(Error::LowerTier {
                path: path.to_owned(),
                wanted: name_of(wanted),
                found: name_of(key_tier),
            });
        }
        Ok(wanted)
    }
}

pub(crate) const MAX_TIERS: usize = tail::KEYS.len();

/// The word for [`Edition::Any`], which no tier may have as its name.
const ANY: &str = "any";

/// Returns whether a tier may have this name: 1 to 64 of `a` to `z`, `0` to `9`, `.`, `_` and `-`,
/// except `any`.
pub(crate) fn is_tier_name(name: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(is_plain) && name != ANY
}

/// The keys of all tiers, each wrapped to its recipients: armored age files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrappedKeys(
    /// By tier, the least first; `None` for a tier without recipients.
    pub(crate) Vec<Option<String>>,
);

impl WrappedKeys {
    pub(crate) fn of_tail(tail: &Tail<'_>, tiers: u8) -> std::result::Result<WrappedKeys, String> {
        let mut parts = tail::KEYS.map(|key| tail.value(key).map(str::to_owned));
        let (of_model, above) = parts.split_at_mut(usize::from(tiers).min(MAX_TIERS));
        if above.iter().any(Option::is_some) {
            return Err(format!("the key of a tier above the model's {tiers}"));
        }
        let parts = of_model.iter_mut().map(Option::take).collect();
        Ok(WrappedKeys(parts))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let all = tail::KEYS.into_iter().zip(&self.0);
        all.filter_map(|(key, part)| Some((key, part.as_ref()?.as_bytes())))
    }

    /// Checks every key as far as possible without an identity, so that nothing can hide in one that is
    /// never tried.
    pub(crate) fn check(&self) -> std::result::Result<(), crypto::Error> {
        (self.0.iter().flatten()).try_for_each(|part| check_wrapped(part))
    }

    /// Returns the highest tier that one of `identities` opens, and its key.
    pub(crate) fn unwrap(
        &self,
        identities: &Identities,
    ) -> std::result::Result<(u8, DataKey), crypto::Error> {
        self.check()?;
        let mut kinds = Vec::new();
        let mut wrong = None;
        for (tier, part) in (1..=u8::MAX).zip(&self.0).rev() {
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
