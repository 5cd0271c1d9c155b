//! Protecting a model: plan, encrypt in place, authenticate everything, append the tail.

use std::collections::BTreeMap;
use std::path::Path;

use onnxseal_crypto::signature::SigningKey;
use onnxseal_onnx::model::NodeId;
use onnxseal_onnx::{Model, tail};
use onnxseal_plan::{self as plan, Plan, Policy, Scores, TensorPlan, Wanted, Whole};
use onnxseal_store::{Input, Location, OutputOptions};

use crate::check::report::{Builder, ClearRow, Report, TensorRow, list, operator, tier_rows};
use crate::error::{Error, Result};
use crate::format::manifest::{
    DEFAULT_CHUNK_BYTES, Draft, File, Mode, OriginalDraft, Place, Targets, Tensor,
};
use crate::format::tiers::{Fill, TierRuns};
use crate::make::audience::Audience;
use crate::make::rename::{Naming, Renamed, rename};
use crate::make::seal::{Plaintext, Sealing};
use crate::pass::outputs::{self, Outputs};
use crate::pass::progress::{Progress, Silent};
use crate::pass::publish::Publication;
use crate::pass::score::score_files;
use crate::pass::source::Source;

/// How to protect a model.
#[derive(Debug)]
pub struct ProtectOptions {
    /// Which weights to encrypt, and how much of each.
    pub policy: Policy,
    /// Statements to authenticate along with the model.
    pub claims: BTreeMap<String, String>,
    /// The publisher's key, if the protected model shall be signed.
    pub signing_key: Option<SigningKey>,
    /// The path of the external data file of the protected model, relative to its folder; of several, the
    /// folder that they go to. If absent, they keep their paths, or are called after the output if they
    /// would meet the original's. In a batch they keep their paths.
    pub external_data: Option<String>,
    /// Bytes in a chunk: a power of two from 64 KiB to 16 MiB.
    pub chunk_bytes: u64,
    /// How the outputs are written.
    pub output: OutputOptions,
}

impl ProtectOptions {
    /// Options with `policy`, no claims, and nothing replaced.
    pub fn new(policy: Policy) -> ProtectOptions {
        ProtectOptions {
            policy,
            claims: BTreeMap::new(),
            signing_key: None,
            external_data: None,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            output: OutputOptions::default(),
        }
    }
}

/// Plans which weights of the model at `location` [`protect`] would encrypt, and writes nothing.
///
/// # Errors
/// `Malformed`, `Io`; `Usage` if the model is protected already, or its manifest would be too long. A plan that falls short of the policy's
/// demands is no error here: see [`Report::violations`].
pub fn plan(location: impl Into<Location>, policy: &Policy) -> Result<Report> {
    let source = Source::open(&location.into())?;
    let mut prepared = Prepared::new(source, policy, Naming::Keep, &Silent)?;
    prepared.check_manifest(policy)?;
    Ok(prepared.planned.report)
}

/// Protects the model at `location` and writes the result to `output`. Only `recipients` can open it.
///
/// External files go beside the output under their relative paths, or under names of their own if they
/// would meet the original's: see [`ProtectOptions::external_data`].
///
/// # Errors
/// `Malformed`, `PolicyNotMet`, `Io`; `Usage` if the model is protected already, if an output is an input
/// or if it exists (unless `options.output.replace`; several files are never replaced). On failure,
/// `output` is what it was.
pub fn protect<'a>(
    location: impl Into<Location>,
    output: impl Into<Location>,
    recipients: impl Into<Audience<'a>>,
    options: &ProtectOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let (source, output) = (Source::open(&location.into())?, output.into());
    let naming = Naming::after(&output, options.external_data.as_deref());
    let prepared = Prepared::new(source, &options.policy, naming, progress)?;
    prepared.protect(
        &output,
        recipients.into(),
        options,
        options.output.into(),
        progress,
    )
}

/// [`protect`], with `publication` in place of `options.output`; external files keep their paths.
pub fn protect_with<'a>(
    location: impl Into<Location>,
    output: impl Into<Location>,
    recipients: impl Into<Audience<'a>>,
    options: &ProtectOptions,
    publication: Publication<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let source = Source::open(&location.into())?;
    let prepared = Prepared::new(source, &options.policy, Naming::Keep, progress)?;
    prepared.protect(
        &output.into(),
        recipients.into(),
        options,
        publication,
        progress,
    )
}

/// Replaces the model at `location` by its protected form, in one step, once that is on the disk
/// whatever `options.output` say. If the file system can share blocks, only changed ones are written.
///
/// Permissions and, if possible, the owner stay. Other hard links keep the original. External files get
/// new names, and the model is replaced last and refers to these. The original's external files stay,
/// because other models may use them too: their names are [`Report::original_files`].
///
/// # Errors
/// As [`protect`]; `Usage` for a model in an object store.
/// On failure, the model is what it was.
pub fn protect_in_place<'a>(
    location: impl Into<Location>,
    recipients: impl Into<Audience<'a>>,
    options: &ProtectOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let location = Location::File(location.into().in_place()?);
    let naming = Naming::after(&location, options.external_data.as_deref());
    let prepared = Prepared::new(Source::open(&location)?, &options.policy, naming, progress)?;
    // Another call that changes the model would be lost when this one replaces it.
    prepared.model.lock_in_place()?;
    let external = outputs::paths_beside(&location, &prepared.files, prepared.inputs())?;
    let outputs = Outputs::in_place(&prepared.model, &external)?;
    prepared.seal(outputs, recipients.into(), options, progress, |model| {
        Ok(model.check_in_place()?)
    })
}

/// A model with the plan for it.
struct Prepared {
    model: Input,
    external: Vec<Input>,
    files: Vec<File>,
    /// How to restore the original, if external files were renamed.
    original: Option<OriginalDraft>,
    planned: Planned,
}

impl Prepared {
    fn new(
        source: Source,
        policy: &Policy,
        naming: Naming<'_>,
        progress: &dyn Progress,
    ) -> Result<Prepared> {
        let path = source.input.path.clone();
        let model = source.locate(source.input.len)?;
        if model
            .metadata_props
            .iter()
            .any(|prop| prop.key.starts_with(tail::PREFIX))
        {
            return Err(Error::AlreadyProtected { path });
        }
        // Programs could read other weights than the plan encrypts.
        source.check_unambiguous(&model)?;
        let external = source.open_external(&model)?;
        let mut files = vec![File {
            path: String::new(),
            bytes: source.input.len,
        }];
        files.extend(
            (model.external_files.iter())
                .zip(&external)
                .map(|(location, input)| File {
                    path: location.clone(),
                    bytes: input.len,
                }),
        );
        // The model first is the order of the manifest.
        let inputs = || std::iter::once(&source.input).chain(&external);
        let score = |source: &Source, model: &Model<'_>, files: &[File], wanted: &[Wanted]| {
            let inputs: Vec<&Input> = std::iter::once(&source.input).chain(&external).collect();
            score_files(model, files, &inputs, wanted, progress)
        };
        let Some(names) = naming.choose(&files, inputs())? else {
            let planned = Planned::new(&path, &files, &model, policy, |wanted| {
                score(&source, &model, &files, wanted)
            })?;
            drop(model);
            let model = source.input;
            return Ok(Prepared {
                model,
                external,
                files,
                original: None,
                planned,
            });
        };
        drop(model);
        // `unprotect` writes the original's names: check them before they are replaced.
        outputs::check_names(&Location::File(path.clone()), &files)?;
        // The edited model is planned anew: its offsets are others.
        let Renamed { source, original } = rename(source, &mut files, names)?;
        let model = source.locate(source.input.len)?;
        if !(model.external_files.iter()).eq(files.iter().skip(1).map(|file| &file.path)) {
            return Err(Error::Internal("a renamed file has another name"));
        }
        let mut planned = Planned::new(&path, &files, &model, policy, |wanted| {
            score(&source, &model, &files, wanted)
        })?;
        planned.report.original_files = original.files(&files);
        drop(model);
        Ok(Prepared {
            model: source.input,
            external,
            files,
            original: Some(original),
            planned,
        })
    }

    fn protect(
        self,
        output: &Location,
        recipients: Audience<'_>,
        options: &ProtectOptions,
        publication: Publication<'_>,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let paths = outputs::paths(output, &self.files, self.inputs())?;
        let outputs = Outputs::create(paths, publication)?;
        self.seal(outputs, recipients, options, progress, |_| Ok(()))
    }

    /// Fails if the manifest would be too long, even without claims.
    fn check_manifest(&mut self, policy: &Policy) -> Result<()> {
        let mut draft = Draft {
            tensors: std::mem::take(&mut self.planned.tensors),
            original: self.original.take(),
            ..Draft::of_files(std::mem::take(&mut self.files))
        };
        draft.set_tiers(tier_names(policy));
        draft.check_len().map(drop)
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        std::iter::once(&self.model).chain(&self.external)
    }

    /// Seals the model into `outputs`, and publishes them if `check` of the model file does not fail.
    fn seal(
        mut self,
        outputs: Outputs,
        recipients: Audience<'_>,
        options: &ProtectOptions,
        progress: &dyn Progress,
        check: impl FnOnce(&Input) -> Result<()>,
    ) -> Result<Report> {
        let mut draft = Draft {
            chunk: options.chunk_bytes,
            claims: options.claims.clone(),
            tensors: self.planned.take_tensors(&self.model.path)?,
            original: self.original.take(),
            ..Draft::of_files(std::mem::take(&mut self.files))
        };
        draft.set_tiers(tier_names(&options.policy));
        let (manifest, manifest_bytes) = draft.encode()?;
        let claims = manifest.claims.clone();
        let sealing = Sealing {
            plaintext: Plaintext::Files(self.inputs().collect()),
            manifest,
            manifest_bytes,
            recipients,
            weights: self.planned.report.weights,
            signing_key: options.signing_key.as_ref(),
        };
        sealing.run(&outputs, progress)?;
        check(&self.model)?;
        outputs.publish(self.inputs())?;
        let mut report = self.planned.report;
        report.claims = claims;
        Ok(report)
    }
}

/// A model's plan by a policy: the report, and the manifest's entries.
pub(crate) struct Planned {
    pub(crate) report: Report,
    tensors: Vec<Tensor>,
}

impl Planned {
    pub(crate) fn new(
        path: &Path,
        files: &[File],
        model: &Model<'_>,
        policy: &Policy,
        score: impl FnOnce(&[Wanted]) -> Result<Scores>,
    ) -> Result<Planned> {
        let plan = plan::plan(model, policy, score)?;
        let violations = list(&plan.violations(model, policy));
        let (mut report, mut tensors) = describe(path, files, model, plan)?;
        report.violations = violations;
        report.tiers = tier_rows(&tier_names(policy), &tensors);
        tensors.sort_by_key(|tensor| (tensor.file, tensor.offset));
        Ok(Planned { report, tensors })
    }

    /// The manifest's entries for the tensors to encrypt in the model at `path`.
    ///
    /// # Errors
    /// [`Error::PolicyNotMet`] if the plan falls short of the policy's demands.
    pub(crate) fn take_tensors(&mut self, path: &Path) -> Result<Vec<Tensor>> {
        if !self.report.violations.is_empty() {
            return Err(Error::PolicyNotMet {
                path: path.to_owned(),
                violations: std::mem::take(&mut self.report.violations),
            });
        }
        Ok(std::mem::take(&mut self.tensors))
    }
}

/// The names of the tiers of `policy`, the least first.
pub(crate) fn tier_names(policy: &Policy) -> Vec<String> {
    let tiers = policy.tiers().iter();
    tiers.map(|tier| tier.name.clone()).collect()
}

/// The manifest's entry for a tensor of the plan that `owner` owns; `None` if its elements have no place
/// that can be encrypted.
fn entry_of(model: &Model<'_>, owner: NodeId, planned: &TensorPlan) -> Option<Tensor> {
    let tensor = model.tensors.get(planned.tensor.index())?;
    let Place {
        file,
        offset,
        element_bits,
        stride,
    } = Place::of(tensor)?;
    let others = planned
        .consumers
        .iter()
        .copied()
        .filter(|&node| node != owner);
    // The owner first: the manifest says so of it.
    let mut operators = Vec::with_capacity(planned.consumers.len());
    operators.push(operator(model, owner));
    operators.extend(others.map(|id| operator(model, id)));
    let runs = planned.targets.iter();
    let targets = Targets::new(runs.flat_map(|run| [run.skip, run.take]).collect());
    let tiers = planned.tiers.iter();
    let tiers = tiers.flat_map(|run| [u64::from(run.tier), run.take]);
    Some(Tensor {
        name: tensor.name.to_owned(),
        at: tensor.path.clone(),
        data_type: tensor.data_type.as_str_name().into(),
        dims: tensor.dims.clone(),
        operators,
        mode: match planned.mode {
            plan::Mode::Mask => Mode::Mask,
            plan::Mode::Shuffle => Mode::Shuffle,
            _ => Mode::Bytes,
        },
        tier: TierRuns::new(tiers.collect()),
        file,
        offset,
        element_bits,
        stride,
        unit: planned.unit_elements,
        n: planned.n,
        targets,
        fill: Fill::new(planned.fill.clone()),
    })
}

/// The plan as a report, and as the manifest's entries for what it encrypts.
fn describe(
    path: &Path,
    files: &[File],
    model: &Model<'_>,
    plan: Plan,
) -> Result<(Report, Vec<Tensor>)> {
    // A tensor that is left out would stay in clear.
    const LOST: Error = Error::Internal("the plan is not of this model");
    let mut builder = Builder::new(path, files.to_vec(), model);
    let mut tensors = Vec::new();
    // A large plan takes much memory: each part of it is freed once it has its row.
    for planned in plan.tensors {
        let owner = plan.operators.get(planned.operator).ok_or(LOST)?;
        let entry = entry_of(model, owner.node, &planned).ok_or(LOST)?;
        let row = builder.add(model, owner.node, TensorRow::of_manifest(&entry));
        row.coefficient = Some(owner.coefficient);
        row.volume_bytes = Some(owner.volume_bytes);
        row.whole_because = owner.whole.map(Whole::text);
        if !planned.targets.is_empty() {
            tensors.push(entry);
        }
    }
    for clear in plan.clear {
        let tensor = model.tensors.get(clear.tensor.index()).ok_or(LOST)?;
        let operators = clear.consumers.iter().map(|&node| operator(model, node));
        let (reason, operators) = (clear.reason.text(), operators.collect());
        builder.add_clear(ClearRow::new(tensor, clear.bytes, reason, operators));
    }
    Ok((builder.finish(), tensors))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_onnx::{Limits, locate};
    use onnxseal_plan::Preset;
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;

    #[test]
    fn no_planned_tensor_goes_missing() {
        let bytes = GraphBuilder::new("g")
            .initializer(weights("w", &[16, 16], 1))
            .initializer(weights("nothing", &[0], 1))
            .node(node("MatMul", &["x", "w"], &["y"]))
            .encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let policy = Policy::preset(Preset::Full);
        let never = |_: &[Wanted]| Err::<Scores, _>(Error::Internal("nothing is to choose"));
        let plan = || plan::plan(&model, &policy, never).unwrap();
        let described = |plan| describe(Path::new("m"), &[], &model, plan);
        assert_eq!(described(plan()).unwrap().1.len(), 1);
        let without_a_place = model.tensors_with_ids().nth(1).unwrap().0;
        let mut of_another = plan();
        of_another.tensors[0].tensor = without_a_place;
        assert!(matches!(described(of_another), Err(Error::Internal(_))));
        let mut of_another = plan();
        of_another.operators.clear();
        assert!(matches!(described(of_another), Err(Error::Internal(_))));
        // In another model the plan's tensors are not there.
        let bytes = GraphBuilder::new("empty").encode();
        let empty = locate(&bytes, &Limits::default()).unwrap();
        let described = describe(Path::new("m"), &[], &empty, plan());
        assert!(matches!(described, Err(Error::Internal(_))));
    }
}
