//! Checking a protected model without handing anything out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use onnxseal_crypto::wrap::Identities;
use onnxseal_onnx::Model;
use onnxseal_plan::{self as plan, Policy};
use serde::Serialize;

use crate::chunks;
use crate::error::{Error, Result};
use crate::input::Input;
use crate::inspect::examine;
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::protected::Protected;
use crate::report::Volume;

/// What [`verify`] found to be in order.
///
/// Serialises to the JSON of `onnxseal verify --json`; members are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Path of the model.
    pub model: String,
    /// Whether every byte of every file was authenticated; `false` where no identity was given.
    pub authenticated: bool,
    /// Whether the model is protected as the policy demands; absent where none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_met: Option<bool>,
    /// How much of the weights is encrypted.
    pub weights: Volume,
    /// The publisher's statements; to be trusted only if `authenticated`.
    pub claims: BTreeMap<String, String>,
}

/// Checks the protected model at `path`: its structure, and that the metadata describes its graph;
/// with `policy`, that at least as much of every weight is encrypted as the policy demands; with
/// `identities`, that every byte of every file is as it was protected.
///
/// # Errors
/// `Malformed`, `Authentication`, `NoMatchingKey`, `PolicyNotMet`, `Io`; `Usage` when the model is
/// not protected.
pub fn verify(
    path: &Path,
    identities: Option<&Identities>,
    policy: Option<&Policy>,
    progress: &dyn Progress,
) -> Result<Verification> {
    let protected = Protected::open(path)?;
    // What is authentic is said first: a forged graph should not be called a bad policy.
    match identities {
        Some(identities) => {
            let unlocked = protected.unlock(identities)?;
            chunks::for_each(
                protected.manifest(),
                unlocked.tags(),
                progress,
                |workspace, chunk, tag| {
                    let (bytes, tools) = workspace.room(chunk);
                    unlocked.read(chunk, bytes)?;
                    unlocked.open_chunk(chunk, bytes, tag, tools)
                },
            )?;
            unlocked.files().try_for_each(Input::check_unchanged)?;
        }
        None => drop(protected.open_external()?),
    }
    let model = protected
        .source
        .locate(protected.manifest().model_bytes())?;
    let report = examine(path, &model, protected.manifest())?;
    if let Some(policy) = policy {
        let violations = shortfalls(&model, protected.manifest(), policy)?;
        if !violations.is_empty() {
            return Err(Error::PolicyNotMet {
                path: path.to_owned(),
                violations,
            });
        }
    }
    Ok(Verification {
        model: report.model,
        authenticated: identities.is_some(),
        policy_met: policy.map(|_| true),
        weights: report.weights,
        claims: report.claims,
    })
}

/// In which ways `manifest` encrypts less of `model` than `policy` demands.
fn shortfalls(model: &Model<'_>, manifest: &Manifest, policy: &Policy) -> Result<Vec<String>> {
    let plan = plan::plan(model, policy).map_err(Error::Policy)?;
    let encrypted: HashMap<&str, u64> = manifest
        .tensors
        .iter()
        .map(|tensor| (&*tensor.at, tensor.encrypted_bytes()))
        .collect();
    let mut shortfalls: Vec<String> = plan
        .violations(policy)
        .iter()
        .map(ToString::to_string)
        .collect();
    for planned in &plan.tensors {
        let Some(tensor) = model.tensors.get(planned.tensor.index()) else {
            continue;
        };
        let found = encrypted.get(tensor.path.as_str()).copied().unwrap_or(0);
        if found < planned.encrypted_bytes {
            shortfalls.push(format!(
                "tensor {:?} has {found} of {} bytes encrypted, expected at least {}",
                tensor.name, planned.bytes, planned.encrypted_bytes
            ));
        }
    }
    Ok(shortfalls)
}
