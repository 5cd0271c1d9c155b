//! What there is to attack: candidates, and what of each an attacker sees.

use onnxseal_engine::Files;
use onnxseal_plan::{Policy, Preset};

use crate::error::{Error, Result};
use crate::hidden::Hidden;
use crate::options::{NamedPolicy, Options};
use crate::sealed::Sealed;
use crate::subject::Subject;

/// What one attacker sees of a candidate.
pub(crate) struct View {
    /// The candidate, and the attacker's key.
    pub(crate) name: String,
    /// The tier of which the attacker has the key.
    pub(crate) tier: Option<String>,
    /// What is encrypted for them.
    pub(crate) hidden: Hidden,
    /// What they run as it is; absent where random bytes stand for ciphertext.
    pub(crate) files: Option<Files>,
}

/// The views of a candidate, the model `sealed` by `policy` if that has tiers, or as it is protected
/// already: without a key, then with that of each tier but the highest, the highest of these first.
pub(crate) fn views(
    subject: &Subject,
    name: &str,
    policy: Option<&Policy>,
    sealed: Option<&Sealed>,
) -> Result<Vec<View>> {
    let hidden_above = |tier| match policy {
        Some(policy) => Hidden::of_policy_above(subject, policy, tier),
        None => Hidden::of_protected_above(subject, tier),
    };
    let (mut files, mut editions) = (None, Vec::new());
    if let (Some(policy), Some(sealed)) = (policy, sealed) {
        files = Some(sealed.stored()?);
        for tier in policy
            .tiers()
            .split_last()
            .map_or(&[][..], |(_, lower)| lower)
        {
            editions.push((tier.name.clone(), sealed.files(&tier.name)?));
        }
    } else if let (None, Some(protected)) = (policy, &subject.protected) {
        files.clone_from(&protected.stored);
        editions.clone_from(&protected.editions);
    }
    let mut views = vec![View {
        name: name.to_owned(),
        tier: None,
        hidden: hidden_above(0)?,
        files,
    }];
    for (number, (tier, files)) in (1..=u8::MAX).zip(editions).rev() {
        views.push(View {
            name: format!("{name}, with the key of tier {tier}"),
            tier: Some(tier),
            hidden: hidden_above(number)?,
            files: Some(files),
        });
    }
    Ok(views)
}

/// The candidates with their names; without a policy, what is encrypted in the model already.
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
