//! The targets of attacks: candidates, and what an attacker sees of each.

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

/// Makes the views of a candidate, which is the model as already protected, or by `policy`, with
/// a `copy` if that has tiers. The first view has no key; the others have the key of each tier below
/// the highest, in descending order.
pub(crate) fn views(
    subject: &Subject,
    everything: &Hidden,
    name: &str,
    policy: Option<&Policy>,
    copy: Option<&ProtectedCopy>,
) -> Result<Vec<AttackerView>> {
    let hidden_above = |tier| match policy {
        Some(policy) => Hidden::of_policy_above(subject, policy, tier),
        None => Hidden::of_protected_above(subject, tier),
    };
    let (mut files, mut editions) = (None, Vec::new());
    if let (Some(policy), Some(copy)) = (policy, copy) {
        files = Some(copy.stored()?);
        for tier in policy
            .tiers()
            .split_last()
            .map_or(&[][..], |(_, lower)| lower)
        {
            editions.push((tier.name.clone(), copy.files(&tier.name)?));
        }
    } else if let (None, Some(protected)) = (policy, &subject.protected) {
        files.clone_from(&protected.stored);
        editions.clone_from(&protected.editions);
    }
    let view = |name: String, tier, number, files| {
        let hidden: Hidden = hidden_above(number)?;
        Ok::<_, Error>(AttackerView {
            name,
            tier,
            clear: subject.files().clone(),
            is_everything: hidden.covers(everything),
            hidden,
            files,
        })
    };
    let mut views = vec![view(name.to_owned(), None, 0, files)?];
    for (number, (tier, files)) in (1..=u8::MAX).zip(editions).rev() {
        let name = format!("{name}, with the key of tier {tier}");
        views.push(view(name, Some(tier), number, Some(files))?);
    }
    Ok(views)
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
