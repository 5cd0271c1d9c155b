//! The recipients of keys: of a model, or of each of its tiers.

use onnxseal_crypto::DataKey;
use onnxseal_crypto::wrap::Recipients;

use crate::error::{Error, Result, Usage};
use crate::format::manifest::Manifest;
use crate::format::tiers::WrappedKeys;

/// The recipients of each tier, by its name.
pub type TierRecipients = Vec<(String, Recipients)>;

/// The recipients who can open a model.
#[derive(Clone, Copy, Debug)]
pub enum Audience<'a> {
    /// The recipients of a model without tiers.
    All(&'a Recipients),
    /// The recipients of each tier, who open all lower tiers too.
    Tiers(&'a TierRecipients),
}

/// An [`Audience`] that owns its recipients.
#[derive(Debug)]
pub enum OwnedAudience {
    /// The recipients of a model without tiers.
    All(Recipients),
    /// The recipients of each tier.
    Tiers(TierRecipients),
}

impl OwnedAudience {
    /// Joins recipients, each with its tier if it has one. Returns `None` for an empty list.
    ///
    /// # Errors
    /// [`Usage::MixedRecipients`] if only some have a tier; [`Error::Key`] if age cannot combine
    /// the recipients of a tier.
    pub fn join(
        all: impl IntoIterator<Item = (Option<String>, Recipients)>,
    ) -> Result<Option<OwnedAudience>> {
        let mut joined: Vec<(Option<String>, Recipients)> = Vec::new();
        for (tier, more) in all {
            match joined.iter_mut().find(|(of, _)| *of == tier) {
                Some((_, recipients)) => recipients.merge(more)?,
                None => joined.push((tier, more)),
            }
        }
        if joined.is_empty() {
            return Ok(None);
        }
        if joined.iter().all(|(tier, _)| tier.is_none()) {
            let only = joined.pop().map(|(_, recipients)| recipients);
            return Ok(only.map(OwnedAudience::All));
        }
        let with_tier =
            |(tier, recipients): (Option<String>, Recipients)| Some((tier?, recipients));
        let tiers: Option<TierRecipients> = joined.into_iter().map(with_tier).collect();
        let tiers = tiers.ok_or(Usage::MixedRecipients)?;
        Ok(Some(OwnedAudience::Tiers(tiers)))
    }

    /// Applies `change` to the recipients of each tier.
    pub fn try_map<E>(
        self,
        mut change: impl FnMut(Recipients) -> std::result::Result<Recipients, E>,
    ) -> std::result::Result<OwnedAudience, E> {
        Ok(match self {
            OwnedAudience::All(recipients) => OwnedAudience::All(change(recipients)?),
            OwnedAudience::Tiers(tiers) => {
                let tiers = tiers.into_iter();
                let changed = tiers.map(|(tier, recipients)| Ok((tier, change(recipients)?)));
                OwnedAudience::Tiers(changed.collect::<std::result::Result<_, E>>()?)
            }
        })
    }
}

impl<'a> From<&'a OwnedAudience> for Audience<'a> {
    fn from(owned: &'a OwnedAudience) -> Audience<'a> {
        match owned {
            OwnedAudience::All(recipients) => Audience::All(recipients),
            OwnedAudience::Tiers(recipients) => Audience::Tiers(recipients),
        }
    }
}

impl<'a> From<&'a Recipients> for Audience<'a> {
    fn from(recipients: &'a Recipients) -> Audience<'a> {
        Audience::All(recipients)
    }
}

impl<'a> From<&'a TierRecipients> for Audience<'a> {
    fn from(recipients: &'a TierRecipients) -> Audience<'a> {
        Audience::Tiers(recipients)
    }
}

impl<'a> Audience<'a> {
    /// Returns the recipients' names, with the tier in front if there is one.
    pub fn names(self) -> Vec<String> {
        match self {
            Audience::All(recipients) => recipients.names().map(str::to_owned).collect(),
            Audience::Tiers(tiers) => {
                let of = |(tier, recipients): &'a (String, Recipients)| {
                    recipients.names().map(move |name| format!("{tier}={name}"))
                };
                tiers.iter().flat_map(of).collect()
            }
        }
    }

    /// Assigns the recipients to the tiers of `manifest`, counted from 1.
    pub(crate) fn by_tier(self, manifest: &Manifest) -> Result<Vec<(u8, &'a Recipients)>> {
        let tiers = || manifest.tier_names().to_vec();
        match self {
            Audience::All(recipients) => match manifest.n_tiers() {
                1 => Ok(vec![(1, recipients)]),
                _ => Err(Usage::RecipientsWithoutTier(tiers()).into()),
            },
            Audience::Tiers(recipients) => {
                let tier_of = |name: &String| {
                    manifest.tier_named(name).ok_or_else(|| {
                        let (name, tiers) = (name.clone(), tiers());
                        Error::from(Usage::RecipientsOfNoTier { name, tiers })
                    })
                };
                let mut by_tier = Vec::new();
                for (name, of) in recipients {
                    let tier = tier_of(name)?;
                    if by_tier.iter().any(|(other, _)| *other == tier) {
                        let name = name.clone();
                        return Err(Usage::TierTwice(name).into());
                    }
                    by_tier.push((tier, of));
                }
                Ok(by_tier)
            }
        }
    }

    /// Wraps the keys of all tiers; `key` is the highest tier's.
    pub(crate) fn wrap(self, key: DataKey, manifest: &Manifest) -> Result<WrappedKeys> {
        let by_tier = self.by_tier(manifest)?;
        let tiers = manifest.n_tiers();
        let mut parts = vec![None; tiers.into()];
        if by_tier.iter().all(|(tier, _)| *tier != tiers) {
            let name = manifest.tier_name(tiers).to_owned();
            return Err(Usage::NobodyOpensAll(name).into());
        }
        let keys = key.with_lower(tiers, tiers)?;
        for (tier, key) in (1..=tiers).zip(&keys).rev() {
            if let Some((_, recipients)) = by_tier.iter().find(|(of, _)| *of == tier) {
                let wrapped = recipients.wrap(key)?;
                parts[usize::from(tier) - 1] = Some(wrapped);
            }
        }
        Ok(WrappedKeys(parts))
    }
}
