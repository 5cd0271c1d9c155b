//! The targets of attacks: candidates, and what an attacker sees of each.

use onnxseal_engine::Files;
use onnxseal_plan::{Policy, Preset};

use crate::error::{Error, Result};
use crate::hidden::Hidden;
use crate::options::{NamedPolicy, Options};
use crate::subject::{Protected, Subject};

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

/// Makes the views of a candidate, which is the model as already protected, or by `policy`;
/// `protected` has its editions. The first view has no key; the others have the key of each tier
/// below the highest, in descending order.
pub(crate) fn views(
    subject: &Subject,
    everything: &Hidden,
    name: &str,
    policy: Option<&Policy>,
    protected: Option<&Protected>,
) -> Result<Vec<AttackerView>> {
    let view = |name: String, tier, number, files| {
        let hidden = match policy {
            Some(policy) => Hidden::of_policy_above(subject, policy, number)?,
            None => Hidden::of_protected_above(subject, number)?,
        };
        Ok::<_, Error>(AttackerView {
            name,
            tier,
            clear: subject.files().clone(),
            is_everything: hidden.covers(everything),
            hidden,
            files,
        })
    };
    let stored = protected.and_then(|of| of.stored.clone());
    let mut views = vec![view(name.to_owned(), None, 0, stored)?];
    let editions = protected.map_or(&[][..], |of| &of.editions);
    for (number, (tier, files)) in (1..=u8::MAX).zip(editions).rev() {
        let name = format!("{name}, with the key of tier {tier}");
        views.push(view(name, Some(tier.clone()), number, Some(files.clone()))?);
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
