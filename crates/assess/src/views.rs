//! The targets of attacks: candidates, and what an attacker sees of each.

use std::iter;

use onnxseal_engine::Files;
use onnxseal_plan::{Policy, Preset};

use crate::error::{Error, Result};
use crate::hidden::Hidden;
use crate::options::{NamedPolicy, Options};
use crate::protected_copy::ProtectedCopy;
use crate::subject::Subject;

/// What one attacker sees of a candidate.
pub(crate) struct AttackerView {
    /// The candidate, and the attacker's key.
    pub(crate) name: String,
    /// The tier of which the attacker has the key.
    pub(crate) tier: Option<String>,
    /// The original's files, in which `hidden` says what the attacker does not see.
    pub(crate) clear: Files,
    pub(crate) hidden: Hidden,
    /// Whether nothing of the model's own is in clear.
    pub(crate) is_everything: bool,
    /// The files that the attacker can run as they are; absent if random bytes stand for
    /// ciphertext.
    pub(crate) files: Option<Files>,
}

/// Makes the views of a candidate, which is the model as already protected, or by `policy`. The first
/// view has no key; the others have the key of each tier below the highest, in descending order.
pub(crate) fn views(
    subject: &Subject,
    everything: &Hidden,
    name: &str,
    policy: Option<&Policy>,
) -> Result<Vec<AttackerView>> {
    let tiered;
    let protected = match policy {
        None => Some(subject),
        Some(policy) if policy.tiers().is_empty() => None,
        Some(policy) => {
            tiered = ProtectedCopy::new(subject, policy)?.subject()?;
            Some(&tiered)
        }
    };
    let seen = protected.and_then(|protected| protected.protected.as_ref());
    let lower = seen.map_or(&[][..], |seen| &seen.editions).iter();
    let lower = (1..=u8::MAX).zip(lower).rev();
    let lower = lower.map(|(number, (tier, files))| (number, Some(tier), Some(files.clone())));
    let without_key = (0, None, seen.and_then(|seen| seen.stored.clone()));
    let view = |(number, tier, files): (u8, Option<&String>, Option<Files>)| {
        let hidden = match (protected, policy) {
            (None, Some(policy)) => Hidden::of_policy(subject, policy),
            _ => Hidden::of_protected_above(protected.unwrap_or(subject), number),
        }?;
        Ok(AttackerView {
            name: match tier {
                Some(tier) => format!("{name}, with the key of tier {tier}"),
                None => name.to_owned(),
            },
            tier: tier.cloned(),
            clear: subject.files().clone(),
            is_everything: hidden.covers(everything),
            hidden,
            files,
        })
    };
    iter::once(without_key).chain(lower).map(view).collect()
}

/// Returns the candidates with their names; without a policy, the model's present protection.
pub(crate) fn candidates(
    subject: &Subject,
    options: &Options<'_>,
) -> Result<Vec<(String, Option<NamedPolicy>)>> {
    let mut found = Vec::new();
    if subject.protected.is_some() {
        found.push(("as protected".to_owned(), None));
    }
    let named = match (&options.candidates[..], found.is_empty()) {
        ([], true) => Preset::ALL.map(NamedPolicy::from).to_vec(),
        (named, _) => named.to_vec(),
    };
    let named = named.into_iter();
    found.extend(named.map(|named| (named.name.clone(), Some(named))));
    for (i, (name, _)) in found.iter().enumerate() {
        if found[..i].iter().any(|(other, _)| other == name) {
            return Err(Error::Usage(format!("two candidates are called {name:?}")));
        }
    }
    Ok(found)
}
