//! Looks at a model before a call works on it: which files it has, how much memory it needs.

use onnxseal_crypto::wrap::Identities;
use onnxseal_onnx::model::{Model, Payload};
use onnxseal_onnx::{Error as OnnxError, Fault, may_be_model, unprotectable};
use onnxseal_plan::{Bound, Policy, bound};
use onnxseal_store::{Input, Location};

use crate::error::{Error, Result};
use crate::format::dates::now;
use crate::format::licence::check_in_force;
use crate::format::manifest::Manifest;
use crate::format::tiers::Edition;
use crate::open::protected::Protected;
use crate::pass::signature::Access;
use crate::pass::source::Source;

/// Bytes of memory to locate, plan and report one byte of a model's structure, which is all but its
/// weights.
pub const BYTES_FOR_STRUCTURE: u64 = 48;

/// Bytes of memory to plan a run of subsequences and write it to a manifest.
const BYTES_FOR_RUN: u64 = 96;

/// Bytes of memory for the score of a subsequence.
const BYTES_FOR_SCORE: u64 = 8;

/// Bytes of memory to compare a score with others, freed before runs are made.
const BYTES_FOR_CHOICE: u64 = 24;

/// An open model file, not parsed yet.
#[derive(Debug)]
pub struct Outline(Source);

impl Outline {
    /// Looks at the model in `input`.
    pub fn of(input: Input) -> Outline {
        Outline(Source::of(input))
    }

    /// Returns the open model file.
    pub fn input(&self) -> &Input {
        &self.0.input
    }

    /// Returns the manifest, not authenticated, or `None` if the model is not protected.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        Ok(self.0.artifact()?.map(|artifact| artifact.manifest))
    }

    /// Returns the external data files that the first `len` bytes of the model file name, and the
    /// bytes of memory to locate, plan (with a `policy`) and report their structure.
    pub fn structure(&self, len: u64, policy: Option<&Policy>) -> Result<(Vec<String>, u64)> {
        let model = self.0.locate(len)?;
        let bytes = structure_bytes(&model, len, policy);
        Ok((model.external_files, bytes))
    }
}

/// Estimates the bytes of memory for the structure of `model`, whose file has `len` bytes, and for
/// its plan by `policy`.
fn structure_bytes(model: &Model<'_>, len: u64, policy: Option<&Policy>) -> u64 {
    let payload = model.tensors.iter().map(|tensor| match &tensor.payload {
        Payload::Dense { file, span, .. } if file.0 == 0 => span.len,
        _ => 0,
    });
    let payload = payload.fold(0, u64::saturating_add);
    let Bound { units, runs } = policy.map_or(Bound::default(), |policy| bound(model, policy));
    let to_choose = BYTES_FOR_CHOICE.saturating_mul(units);
    let to_plan = BYTES_FOR_RUN.saturating_mul(runs);
    (BYTES_FOR_STRUCTURE.saturating_mul(len.saturating_sub(payload)))
        .saturating_add(BYTES_FOR_SCORE.saturating_mul(units))
        .saturating_add(to_choose.max(to_plan))
}

/// Checks that `access` opens the protected model at `location` now: its data key, manifest and tags,
/// and its dates. Does not read the weights.
pub fn check_access(location: &Location, access: &Access<'_>) -> Result<()> {
    let protected = Protected::open(location)?;
    let (_, _, key_tier) = protected.key_for(access, now())?;
    check_in_force(protected.path(), protected.manifest().claims(), now())?;
    protected.tier_of(access.edition, key_tier).map(drop)
}

/// Checks that one of `identities` opens `edition` of the protected model at `location`: its data
/// key, manifest and tags. Does not read the weights.
pub fn check_identities(
    location: &Location,
    identities: &Identities,
    edition: Edition<'_>,
) -> Result<()> {
    let protected = Protected::open(location)?;
    let (_, _, key_tier) = protected.data_key(identities)?;
    protected.tier_of(edition, key_tier).map(drop)
}

/// Returns whether a file that cannot be located is a model all the same, of which calls tell what is
/// wrong.
fn is_refused_model(error: &OnnxError) -> bool {
    match error {
        OnnxError::Malformed { fault, .. } => matches!(fault, Fault::Location { .. }),
        error => matches!(error, OnnxError::LimitExceeded { .. }),
    }
}

/// The most bytes of a file's structure that a search reads to tell whether it is a model.
const SEARCHED_BYTES: u64 = 64 << 20;

/// Returns whether the file is a model by its contents: one that can be located and has content, one
/// whose external data lie where no program should follow, one beyond the limits, one with more than
/// 64 MiB that are no elements, or one in ONNX Runtime's own formats.
pub fn is_model(input: Input) -> Result<bool> {
    let mut head = vec![0; input.len.min(16) as usize];
    input.read_exact_at(&mut head, 0)?;
    if unprotectable(&head).is_some() {
        return Ok(true);
    }
    if !may_be_model(&head) {
        return Ok(false);
    }
    let source = Source::within(input, SEARCHED_BYTES);
    let located = source.locate(source.input.len);
    match located.map(|model| model.has_content()) {
        Err(Error::Model { source, .. }) => Ok(is_refused_model(&source)),
        has_content => has_content,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_onnx::{Limits, locate};
    use onnxseal_plan::Preset;
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;

    #[test]
    fn scores_and_their_runs_take_memory() {
        let bytes = GraphBuilder::new("g")
            .input("x", &[1, 1024])
            .initializer(weights("w", &[1024, 256], 1))
            .node(node("Conv", &["x", "w"], &["y"]))
            .encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let need =
            |policy: Option<Policy>| structure_bytes(&model, bytes.len() as u64, policy.as_ref());
        let without_plan = BYTES_FOR_STRUCTURE * (bytes.len() as u64 - (1 << 20));
        assert_eq!(need(None), without_plan);
        // One run.
        let full = need(Some(Policy::preset(Preset::Full)));
        assert_eq!(full, without_plan + 96);
        // 4096 units of 256 bytes, and one for the end. At most 15.5 % of them, or every second,
        // are runs.
        let balanced = need(Some(Policy::preset(Preset::Balanced)));
        assert_eq!(balanced, without_plan + 4097 * (8 + 24));
        let strong = need(Some(Policy::preset(Preset::Strong)));
        assert_eq!(strong, without_plan + 4097 * 8 + 96 * (2048 + 2));
    }
}
