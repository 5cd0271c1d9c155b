//! Checks a protected model, without keeping plaintext.

use std::collections::BTreeMap;
use std::sync::Arc;

use onnxseal_crypto::signature::Signer;
use onnxseal_crypto::wrap::Identities;
use onnxseal_onnx::{Model, tail};
use onnxseal_plan::{self as plan, Gap, Policy, Wanted};
use onnxseal_store::{Input, Location, Progress};
use serde::Serialize;

use crate::check::inspect::examine;
use crate::check::shortfall::shortfalls;
use crate::error::{Error, Result};
use crate::format::artifact::Artifact;
use crate::format::claims::Requirements;
use crate::format::dates::{now, out_of_force};
use crate::format::licence::Licence;
use crate::format::tiers::Edition;
use crate::open::protected::{Protected, Unlocked};
use crate::pass::chunks::Chunk;
use crate::pass::digest::Digester;
use crate::pass::gaps::gaps_of_original;
use crate::pass::signature::{Access, SignedBy};
use crate::pass::states::{FileState, Volume};

/// The result of [`verify`] for a model that passes all checks.
///
/// Serialises to the JSON of `onnxseal verify --json`; members are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Path of the model.
    pub model: String,
    /// Whether every byte of every file was authenticated, except what `unchecked` lists; `false`
    /// if no identity was given.
    pub authenticated: bool,
    /// Entries of the metadata that this call could not authenticate, while it authenticated all
    /// other bytes or found them as signed: wrapped keys of other tiers, all wrapped keys if no
    /// identity was given, and a signature that was not demanded. Absent if empty, and if neither
    /// an identity was given nor a signature demanded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
    /// The tier that the identity opens and whose edition was accepted; absent without an identity,
    /// and for a model of one edition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The signer; absent if no signature was demanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Signer>,
    /// Whether the protection meets the policy; absent if no policy was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_met: Option<bool>,
    /// Entries of the policy that match nothing in the model, where the policy allows that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<String>,
    /// How much of the weights is encrypted.
    pub weights: Volume,
    /// The publisher's statements. Trust them only if `authenticated`.
    pub claims: BTreeMap<String, String>,
    /// The claim that keeps the model from opening now, `not-before` or `not-after`; absent if none
    /// does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_in_force: Option<&'static str>,
    /// The files of the model with their digests, if [`Checks::digests`] asked for them. The JSON
    /// leaves them out.
    #[serde(skip)]
    pub digests: Vec<FileState>,
}

/// The checks of [`verify`] beyond the structure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks<'a> {
    /// Secret keys that authenticate every byte of every file, except [`Verification::unchecked`].
    pub identities: Option<&'a Identities>,
    /// The publishers, one of whom must have signed.
    pub signed_by: Option<&'a SignedBy>,
    /// The edition that the identities must open at least.
    pub edition: Edition<'a>,
    /// The licence to open the model with, instead of its own keys. It must be in force.
    pub licence: Option<&'a Licence>,
    /// Claims that the model must make. Only identities or a demanded signature prove them.
    pub require: Option<&'a Requirements>,
    /// The policy that the protection must meet.
    pub policy: Option<&'a Policy>,
    /// Whether to compute digests of the files. Needs `identities`, because otherwise not all files
    /// are read.
    pub digests: bool,
}

/// Checks the protected model at `location`: its structure, whether the metadata describes its
/// graph, and what `checks` ask for. A signature can be checked without an identity, because it
/// covers the files as they are stored.
pub fn verify(
    location: impl Into<Location>,
    checks: &Checks<'_>,
    progress: &dyn Progress,
) -> Result<Verification> {
    let protected = Arc::new(Protected::open(&location.into())?);
    let (path, manifest) = (protected.path(), protected.manifest());
    // Authenticity first, so that a forged graph is not reported as an unmet policy.
    let (unlocked, signer, digests) = authenticate(&protected, checks, progress)?;
    let unlocked = unlocked.as_ref();
    if let Some(require) = checks.require {
        require.check(path, manifest.claims())?;
    }
    // Authenticated chunks agree with the structure, so conclusions from it hold.
    let model = protected.source.locate(manifest.model_bytes())?;
    let external = protected.source.open_external(&model)?;
    let gaps = gaps_of_original(&model, &external, manifest)?;
    let report = examine(path, &model, manifest, &gaps)?;
    let unmatched = match checks.policy {
        None => Vec::new(),
        Some(policy) => {
            check_policy(&protected, unlocked, &model, &gaps, policy, progress)?;
            plan::unmatched(&model, policy, &gaps)
        }
    };
    let key_tier = unlocked.map(|unlocked| unlocked.key_tier);
    Ok(Verification {
        model: report.model,
        authenticated: unlocked.is_some(),
        unchecked: unchecked(&protected.artifact, key_tier, signer.is_some()),
        tier: unlocked.and_then(|unlocked| unlocked.edition().tier),
        signed_by: signer,
        policy_met: checks.policy.map(|_| true),
        unmatched: (unmatched.iter().map(|(entry, _)| entry.to_string())).collect(),
        weights: report.weights,
        not_in_force: out_of_force(manifest.claims(), now()).map(|(key, _)| key),
        claims: report.claims,
        digests,
    })
}

/// The model, if an identity opened every chunk, who signed it, and the digests of its files.
type Authenticated = (Option<Unlocked>, Option<Signer>, Vec<FileState>);

/// Checks all bytes with the identities of `checks`, or the demanded signature, or that all files
/// are there.
fn authenticate(
    protected: &Arc<Protected>,
    checks: &Checks<'_>,
    progress: &dyn Progress,
) -> Result<Authenticated> {
    let structure = protected.source.structure()?;
    let Some(identities) = checks.identities else {
        let Some(by) = checks.signed_by else {
            // Opening them checks that they are there, and how long they are.
            protected.open_external()?;
            return Ok(Authenticated::default());
        };
        let signer = protected.check_signed(by, Some(structure), progress)?;
        return Ok((None, Some(signer), Vec::new()));
    };
    let access = Access {
        identities,
        signed_by: checks.signed_by,
        edition: checks.edition,
        licence: checks.licence,
    };
    let unlocked = protected.unlock_with(protected.key_for(&access, now())?, access)?;
    let digester = Digester::new(protected.manifest(), checks.digests);
    let stored = |chunk: &Chunk, bytes: &[u8]| digester.take(chunk, bytes);
    unlocked.open_all(structure, progress, stored, |_, _| ())?;
    // A writer may have changed chunks after they were read.
    unlocked.files().try_for_each(Input::check_unchanged)?;
    let signer = unlocked.check_signature()?;
    let digests = match checks.digests {
        true => digester.finish(&protected.artifact.tail)?,
        false => Vec::new(),
    };
    Ok((Some(unlocked), signer, digests))
}

fn check_policy(
    protected: &Protected,
    unlocked: Option<&Unlocked>,
    model: &Model<'_>,
    gaps: &[Gap],
    policy: &Policy,
    progress: &dyn Progress,
) -> Result<()> {
    let (structure, manifest) = (protected.source.structure()?, protected.manifest());
    // The policy chooses by the scores of the original, which a lower edition lacks.
    let original = unlocked.filter(|unlocked| unlocked.edition().is_original);
    // A ranking gives the scores without the weights.
    let is_scored = original.is_some() || policy.ranking().is_some();
    let score = |wanted: &[Wanted]| match original {
        None => Ok(plan::uniform(wanted)),
        Some(unlocked) => unlocked.score(structure, model, wanted, progress),
    };
    let violations = shortfalls(model, manifest, gaps, policy, is_scored, score)?;
    if violations.is_empty() {
        return Ok(());
    }
    let path = protected.path().to_owned();
    Err(Error::PolicyNotMet { path, violations })
}

/// Lists the entries of the tail that neither the key of `key_tier` nor a checked signature
/// authenticates.
fn unchecked(artifact: &Artifact, key_tier: Option<u8>, signature_held: bool) -> Vec<String> {
    if key_tier.is_none() && !signature_held {
        return Vec::new();
    }
    let signature = artifact.signature.iter().filter(|_| !signature_held);
    let own = key_tier.and_then(|tier| tail::KEYS.get(usize::from(tier) - 1));
    let keys = artifact.keys.entries().map(|(key, _)| key);
    let keys = keys.filter(|key| own != Some(key));
    let entries = signature.map(|_| tail::SIG).chain(keys);
    entries.map(str::to_owned).collect()
}
