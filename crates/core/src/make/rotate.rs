//! Encrypts a protected model under a new data key, in one pass. Plaintext stays in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use onnxseal_crypto::signature::SigningKey;
use onnxseal_plan::{self as plan, Policy, Wanted};
use onnxseal_store::{Input, Location, Progress};

use crate::check::inspect::{check_files, examine};
use crate::check::report::Report;
use crate::error::{Error, Result};
use crate::format::dates::check_new;
use crate::format::manifest::Manifest;
use crate::format::manifest::draft::Draft;
use crate::format::tiers::Edition;
use crate::make::audience::Audience;
use crate::make::planned::{Planned, Purpose, tier_names};
use crate::make::rename::{follow, rename_protected};
use crate::make::seal::Sealing;
use crate::open::protected::{Protected, Unlocked};
use crate::pass::gaps::gaps_of_original;
use crate::pass::outputs::Outputs;
use crate::pass::publish::Destination;
use crate::pass::signature::Access;
use crate::pass::source::Source;

/// What to do about the publisher's signature, which new ciphertext invalidates.
#[derive(Debug, Default)]
pub enum Resign {
    /// Refuse a signed model.
    #[default]
    Refuse,
    /// Drop the signature.
    Drop,
    /// Sign the result with this key.
    With(SigningKey),
}

/// How to rotate a model.
#[derive(Debug, Default)]
pub struct RotateOptions {
    /// Which weights to encrypt from now on, and how much of each; as before if absent.
    pub policy: Option<Policy>,
    /// Whether the result has the lock, with which programs refuse it without the key. If absent,
    /// the policy decides; if that does not say, the result has the lock if the model has it.
    pub lock: Option<bool>,
    /// Statements to add to the model's; they replace statements of the same key.
    pub claims: BTreeMap<String, String>,
    /// What to do about the signature.
    pub signature: Resign,
    /// The path of the result's external data file, relative to its folder; for several files, the
    /// folder for them. If absent, they keep their paths. In place, a model with external data
    /// needs it. Ignored if [`Publication::keep_paths`](crate::Publication::keep_paths) is set, or a
    /// [`PublishHook`](crate::PublishHook) is called, whose record is about files that keep theirs.
    pub external_data: Option<String>,
}

/// Encrypts the protected `model` again, to `destination`, under a new data key that only
/// `recipients` can open. New external files go beside the model file under their relative paths, or
/// under [another name](RotateOptions::external_data).
///
/// The old data key does not open the result. It still opens copies of the old model.
///
/// In place, the result replaces the model in one step, once it is on the disk. Permissions and, if
/// possible, the owner stay. Other hard links keep the old model. New external files come first,
/// under another name; the old ones stay, because programs may be reading them:
/// [`Report::left_files`] names them.
pub fn rotate<'a>(
    model: impl Into<Location>,
    destination: impl Into<Destination<'a>>,
    access: impl Into<Access<'a>>,
    recipients: impl Into<Audience<'a>>,
    options: &RotateOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let destination = destination.into();
    let location = destination.source(model.into())?;
    let protected = Arc::new(Protected::open(&location)?);
    let model = &protected.source.input;
    let name = match &destination {
        Destination::New(to) if to.keep_paths || to.hook.is_some() => None,
        _ => options.external_data.as_deref(),
    };
    let external = protected.manifest().files().get(1..).unwrap_or_default();
    let in_place = matches!(destination, Destination::InPlace(_));
    if in_place && name.is_none() && !external.is_empty() {
        let (path, external) = (model.path.clone(), external.len());
        return Err(Error::InPlaceExternal { path, external });
    }
    let is_signed = protected.artifact.signature.is_some();
    if is_signed && matches!(options.signature, Resign::Refuse) {
        return Err(Error::SignatureLost(model.path.clone()));
    }
    destination.lock(model)?;
    let access = Access {
        // A lower edition lacks weights that must be encrypted again.
        edition: Edition::Whole,
        ..access.into()
    };
    // The publisher's own key: who has a licence passes it on to nobody by this call.
    let unlocked = protected.unlock_with(protected.data_key(access.identities)?, access)?;
    let mut draft = Draft::parse(protected.artifact.manifest_bytes()).map_err(Error::Usage)?;
    let renamed = match name.and_then(|_| destination.renames(&location)) {
        Some(output) => rename_protected(&unlocked, (output, name), &mut draft, progress)?,
        None => None,
    };
    let outputs = Outputs::begin(destination, &draft.files, unlocked.files())?;
    draft.claims.extend(options.claims.clone());
    check_new(&options.claims, &draft.claims)?;
    let of_policy = options.policy.as_ref().and_then(Policy::lock);
    draft.lock = options.lock.or(of_policy).unwrap_or(draft.lock);
    let policy = options.policy.as_ref();
    let (manifest_bytes, mut report) =
        plan_again(&unlocked, &mut draft, renamed.as_ref(), policy, progress)?;
    report.locked = draft.lock;
    report.claims = draft.claims;
    if in_place {
        report.left_files = external.to_vec();
    }
    let mut inputs: Vec<&Input> = unlocked.files().collect();
    let mut structure = Some(protected.source.structure()?);
    if let (Some(renamed), Some(model)) = (&renamed, inputs.first_mut()) {
        (*model, structure) = (&renamed.input, None);
    }
    let sealing = Sealing {
        inputs,
        opens: Some(&unlocked),
        structure,
        zeroed: Vec::new(),
        manifest_bytes,
        recipients: recipients.into(),
        weights: report.weights,
        signing_key: match &options.signature {
            Resign::With(key) => Some(key),
            Resign::Refuse | Resign::Drop => None,
        },
    };
    sealing.run(&outputs, progress)?;
    outputs.publish(unlocked.files())?;
    Ok(report)
}

/// Completes `draft`, and returns the manifest of the result and the report on it without statements and
/// lock. Takes the tensors out of the draft. If external files get other names, `renamed` is the model
/// file in plaintext.
fn plan_again(
    unlocked: &Unlocked,
    draft: &mut Draft,
    renamed: Option<&Source>,
    policy: Option<&Policy>,
    progress: &dyn Progress,
) -> Result<(Vec<u8>, Report)> {
    let (path, old) = (unlocked.path(), unlocked.manifest());
    // The graph is not authenticated yet: each chunk is compared with it before it is opened.
    let structure = unlocked.protected.source.structure()?;
    let (model, renamed) = match renamed {
        None => (structure.locate(old.model_bytes())?, None),
        Some(source) => {
            let model = source.locate(source.input.len)?;
            follow(&mut draft.tensors, &model);
            let renamed = Manifest::parse(&draft.encode()?).map_err(Error::Usage)?;
            (model, Some(renamed))
        }
    };
    let present = renamed.as_ref().unwrap_or(old);
    let gaps = gaps_of_original(&model, unlocked.files().skip(1), present)?;
    let Some(policy) = policy else {
        let report = examine(path, &model, present, &gaps)?;
        // Free it: it may take more memory than the chunks of all threads, as may the entries.
        drop(model);
        let manifest_bytes = draft.encode()?;
        draft.tensors = Vec::new();
        return Ok((manifest_bytes, report));
    };
    check_files(path, &model, present)?;
    let score = |wanted: &[Wanted]| match renamed {
        None => unlocked.score(structure, &model, wanted, progress),
        Some(_) => {
            let stored = structure.locate(old.model_bytes())?;
            unlocked.score(structure, &stored, wanted, progress)
        }
    };
    let (files, purpose) = (present.files(), Purpose::Seal);
    let mut plan = plan::plan(&model, policy, score)?;
    plan.gaps = gaps;
    draft.tiers = tier_names(policy);
    Planned::new(path, files, model, policy, purpose, plan)?.encode(path, draft)
}
