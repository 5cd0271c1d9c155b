//! The recipients of keys: of a model, or of each of its tiers.

use onnxseal_crypto::DataKey;
use onnxseal_crypto::wrap::Recipients;
use onnxseal_store::holds_secret;

use crate::error::{Error, Result, list_tiers};
use crate::format::manifest::Manifest;
use crate::format::tiers::WrappedKeys;

/// The recipients of each tier, by its name; of a model without tiers, one entry without a name.
pub type TierRecipients = Vec<(Option<String>, Recipients)>;

/// Joins recipients, all of which have a tier, or none.
pub fn join_recipients(
    all: impl IntoIterator<Item = (Option<String>, Recipients)>,
) -> Result<TierRecipients> {
    let mut joined = TierRecipients::new();
    for (tier, more) in all {
        match joined.iter_mut().find(|(of, _)| *of == tier) {
            Some((_, recipients)) => recipients.merge(more)?,
            None => joined.push((tier, more)),
        }
    }
    if joined.len() > 1 && joined.iter().any(|(tier, _)| tier.is_none()) {
        let fault = "only some recipients have a tier: give all of them one";
        return Err(Error::Usage(fault.into()));
    }
    Ok(joined)
}

/// Facts about its recipients that a model shows to everybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecipientNotes<'a> {
    /// A comment, such as who has the keys.
    pub comment: Option<&'a str>,
    /// Whether to list the recipients' public keys.
    pub is_listed: bool,
}

impl RecipientNotes<'_> {
    /// Adds the notes to `recipients`.
    pub fn add_to(self, mut recipients: Recipients) -> Result<Recipients> {
        if let Some(comment) = self.comment {
            if holds_secret(comment) {
                let fault = "the comment holds a secret key, but anyone can read a comment";
                return Err(Error::Usage(fault.into()));
            }
            recipients = recipients.with_comment(comment)?;
        }
        match self.is_listed {
            true => Ok(recipients.listed()?),
            false => Ok(recipients),
        }
    }
}

/// The recipients who can open a model: of a model without tiers, or of each tier, who open all lower
/// tiers too.
#[derive(Clone, Copy, Debug)]
pub struct Audience<'a> {
    all: Option<&'a Recipients>,
    tiers: &'a [(Option<String>, Recipients)],
}

impl<'a> From<&'a Recipients> for Audience<'a> {
    fn from(recipients: &'a Recipients) -> Audience<'a> {
        let all = Some(recipients);
        Audience { all, tiers: &[] }
    }
}

impl<'a> From<&'a TierRecipients> for Audience<'a> {
    fn from(tiers: &'a TierRecipients) -> Audience<'a> {
        Audience { all: None, tiers }
    }
}

impl<'a> Audience<'a> {
    fn entries(self) -> impl Iterator<Item = (Option<&'a str>, &'a Recipients)> {
        let tiers = self.tiers.iter().map(|(tier, of)| (tier.as_deref(), of));
        self.all.map(|all| (None, all)).into_iter().chain(tiers)
    }

    /// Returns the recipients' names, with the tier in front if there is one.
    pub fn names(self) -> Vec<String> {
        let of = |(tier, recipients): (Option<&str>, &'a Recipients)| {
            let tier = tier.map_or(String::new(), |tier| format!("{tier}="));
            recipients.names().map(move |name| format!("{tier}{name}"))
        };
        self.entries().flat_map(of).collect()
    }

    /// Assigns the recipients to the tiers of `manifest`, counted from 1. The highest comes first.
    pub(crate) fn by_tier(self, manifest: &Manifest) -> Result<Vec<(u8, &'a Recipients)>> {
        let tiers = || list_tiers(manifest.tier_names());
        let mut by_tier = Vec::new();
        for (name, recipients) in self.entries() {
            let tier = match name {
                None if manifest.n_tiers() == 1 => 1,
                None => {
                    let fault = format!("recipients need a tier: {}", tiers());
                    return Err(Error::Usage(fault));
                }
                Some(name) => manifest.tier_named(name).ok_or_else(|| {
                    let fault = format!("there is no tier {name:?} for recipients: {}", tiers());
                    Error::Usage(fault)
                })?,
            };
            if by_tier.iter().any(|(other, _)| *other == tier) {
                let name = name.unwrap_or_default();
                return Err(Error::Usage(format!(
                    "tier {name:?} is given recipients twice"
                )));
            }
            by_tier.push((tier, recipients));
        }
        by_tier.sort_by_key(|(tier, _)| std::cmp::Reverse(*tier));
        Ok(by_tier)
    }

    /// Wraps the keys of all tiers; `key` is the highest tier's.
    pub(crate) fn wrap(self, key: DataKey, manifest: &Manifest) -> Result<WrappedKeys> {
        let by_tier = self.by_tier(manifest)?;
        let tiers = manifest.n_tiers();
        if by_tier.first().is_none_or(|(tier, _)| *tier != tiers) {
            return Err(Error::Usage(format!(
                "the highest tier, {:?}, needs recipients: only they open everything",
                manifest.tier_name(tiers)
            )));
        }
        let keys = key.with_lower(tiers, tiers)?;
        let mut parts = vec![None; tiers.into()];
        for (tier, recipients) in by_tier {
            let index = usize::from(tier) - 1;
            parts[index] = Some(recipients.wrap(&keys[index])?);
        }
        Ok(WrappedKeys(parts))
    }
}
