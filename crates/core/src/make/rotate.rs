//! Encrypts a protected model under a new data key, in one pass. Plaintext stays in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use onnxseal_crypto::signature::SigningKey;
use onnxseal_plan::Policy;
use onnxseal_store::{Input, Location, Progress};

use crate::check::inspect::{check_files, examine};
use crate::check::report::Report;
use crate::error::{Error, Result, rule};
use crate::format::manifest::Manifest;
use crate::format::manifest::draft::Draft;
use crate::format::tiers::Edition;
use crate::make::audience::Audience;
use crate::make::planned::{Planned, Purpose, tier_names};
use crate::make::seal::{Plaintext, Sealing};
use crate::open::protected::{Protected, Unlocked};
use crate::open::score::score_protected;
use crate::pass::gaps::gaps_of_original;
use crate::pass::outputs::Outputs;
use crate::pass::publish::Destination;
use crate::pass::signature::Access;

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
}

/// Encrypts the protected `model` again, to `destination`, under a new data key that only
/// `recipients` can open. New external files go beside the model file under their relative paths.
///
/// The old data key does not open the result. It still opens copies of the old model.
///
/// In place, the result replaces the model in one step, once it is on the disk. Permissions and, if
/// possible, the owner stay. Other hard links keep the old model.
///
/// # Errors
/// As [`open`](crate::open()) and [`protect`](crate::protect()), and [`Error::SignatureLost`]; in
/// place [`Error::InPlaceExternal`], because several files cannot be replaced in one step.
pub fn rotate<'a>(
    model: impl Into<Location>,
    destination: impl Into<Destination<'a>>,
    access: impl Into<Access<'a>>,
    recipients: impl Into<Audience<'a>>,
    options: &RotateOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let destination = destination.into();
    let protected = Arc::new(Protected::open(&destination.source(model.into())?)?);
    let model = &protected.source.input;
    let files = &protected.manifest().files;
    if let (Destination::InPlace(_), external @ 1..) = (&destination, files.len() - 1) {
        let path = model.path.clone();
        return Err(Error::InPlaceExternal { path, external });
    }
    check_signature_kept(&protected, options)?;
    destination.lock(model)?;
    let access = Access {
        // A lower edition lacks weights that must be encrypted again.
        edition: Edition::Whole,
        ..access.into()
    };
    let unlocked = protected.unlock(access)?;
    let outputs = Outputs::begin(destination, files, unlocked.files())?;
    let recipients = recipients.into();
    let report = reseal(
        &protected, &unlocked, &outputs, recipients, options, progress,
    )?;
    outputs.publish(unlocked.files())?;
    Ok(report)
}

/// Fails if a signature would be lost without the caller's consent.
fn check_signature_kept(protected: &Protected, options: &RotateOptions) -> Result<()> {
    match (&options.signature, &protected.artifact.signature) {
        (Resign::Refuse, Some(_)) => Err(Error::SignatureLost {
            path: protected.source.input.path.clone(),
        }),
        _ => Ok(()),
    }
}

/// Opens and seals all chunks in one pass, and returns the report on the result.
fn reseal(
    protected: &Protected,
    unlocked: &Unlocked<'_>,
    outputs: &Outputs<'_>,
    recipients: Audience<'_>,
    options: &RotateOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let Input { path, .. } = &protected.source.input;
    let old = protected.manifest();
    // The graph is not authenticated yet: each chunk is compared with it before it is opened.
    let structure = protected.source.structure()?;
    let model = structure.locate(old.model_bytes())?;
    let gaps = gaps_of_original(&model, unlocked.files().skip(1), old)?;
    let mut draft = Draft::parse(protected.artifact.manifest_bytes()).map_err(rule)?;
    draft.claims.extend(options.claims.clone());
    let of_policy = options.policy.as_ref().and_then(Policy::lock);
    draft.lock = options.lock.or(of_policy).unwrap_or(draft.lock);
    let (manifest_bytes, mut report) = match &options.policy {
        None => {
            let report = examine(path, &model, old, &gaps)?;
            // Free it: it may take more memory than the chunks of all threads, as may the entries.
            drop(model);
            let manifest_bytes = draft.encode()?;
            draft.tensors = Vec::new();
            (manifest_bytes, report)
        }
        Some(policy) => {
            check_files(path, &model, old)?;
            let mut planned = Planned::new(
                path,
                &old.files,
                model,
                gaps,
                policy,
                Purpose::Seal,
                |model, wanted| score_protected(unlocked, structure, model, wanted, progress),
            )?;
            draft.tensors = planned.take_tensors(path)?;
            draft.tiers = tier_names(policy);
            if old.original.is_some() {
                planned.original_files = old.original_files();
            }
            let manifest_bytes = draft.encode()?;
            let tensors = std::mem::take(&mut draft.tensors);
            (manifest_bytes, planned.into_report(tensors)?)
        }
    };
    report.locked = draft.lock;
    report.claims = draft.claims;
    let sealing = Sealing {
        plaintext: Plaintext::Sealed(unlocked, structure),
        zeroed: Vec::new(),
        manifest: Manifest::parse(&manifest_bytes).map_err(rule)?,
        manifest_bytes,
        recipients,
        weights: report.weights,
        signing_key: match &options.signature {
            Resign::With(key) => Some(key),
            Resign::Refuse | Resign::Drop => None,
        },
    };
    sealing.run(outputs, progress)?;
    Ok(report)
}
