//! Protecting: plan, encrypt in place, authenticate everything, append the tail.

use std::collections::BTreeMap;
use std::path::Path;

use onnxseal_crypto::wrap::Recipients;
use onnxseal_crypto::{DataKey, SealKeys};
use onnxseal_onnx::{Model, tail};
use onnxseal_plan::{self as plan, Plan, Policy, TensorPlan};

use crate::artifact::{Artifact, TAG_BYTES};
use crate::chunks::{Chunk, Workspace, chunks};
use crate::error::{Error, Result, io};
use crate::input::Input;
use crate::manifest::{DEFAULT_CHUNK_BYTES, FORMAT, File, Manifest, Mode, Place, SUITE, Tensor};
use crate::open::total_bytes;
use crate::output::Output;
use crate::outputs::{self, OutputOptions, Outputs};
use crate::parallel;
use crate::progress::Progress;
use crate::reflink;
use crate::report::{Builder, ClearRow, Report, TensorRow, operator};
use crate::source::Source;
use crate::spans::SpanSet;

/// How to protect a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProtectOptions {
    /// Which weights, how much of each.
    pub policy: Policy,
    /// Statements to authenticate along with the model.
    pub claims: BTreeMap<String, String>,
    /// Bytes in a chunk: a power of two from 64 KiB to 16 MiB.
    pub chunk_bytes: u64,
    /// How the outputs come to be.
    pub output: OutputOptions,
}

impl ProtectOptions {
    /// Options with `policy`, no claims, and nothing replaced.
    pub fn new(policy: Policy) -> ProtectOptions {
        let (claims, chunk_bytes) = (BTreeMap::new(), DEFAULT_CHUNK_BYTES);
        ProtectOptions {
            policy,
            claims,
            chunk_bytes,
            output: OutputOptions::default(),
        }
    }
}

/// Plans what [`protect`] would encrypt in the model at `path`, without writing anything.
///
/// # Errors
/// `Malformed`, `Io`; `Usage` when the model is protected already. A plan that falls short of the
/// policy's demands is no error here: see [`Report::violations`].
pub fn plan(path: &Path, policy: &Policy) -> Result<Report> {
    Ok(Prepared::new(Source::open(path)?, policy)?.report)
}

/// Protects the model at `path` and writes the result to `output`, external files beside it under
/// their relative paths. Only `recipients` can open it.
///
/// # Errors
/// `Malformed`, `PolicyNotMet`, `Io`; `Usage` when the model is protected already, an output exists
/// (unless `options.output.replace`; never when there are several) or is an input. On failure,
/// `output` is what it was.
pub fn protect(
    path: &Path,
    output: &Path,
    recipients: &Recipients,
    options: &ProtectOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let prepared = Prepared::new(Source::open(path)?, &options.policy)?;
    let paths = outputs::paths(output, &prepared.files, prepared.inputs())?;
    let outputs = Outputs::create(paths, options.output)?;
    prepared.seal(outputs, recipients, options, progress, |_| Ok(()))
}

/// Replaces the model at `path` by its protected form, in one step, once that is on the disk
/// whatever `options.output` say. Where the file system can share blocks, only changed ones are
/// written.
///
/// Permissions and, where possible, the owner stay; other hard links keep the original.
///
/// # Errors
/// As [`protect`]; `Usage` for a model with external files, which cannot be replaced in one step.
/// On failure, the model is what it was.
pub fn protect_in_place(
    path: &Path,
    recipients: &Recipients,
    options: &ProtectOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    // A link to the model stays a link.
    let path = path.canonicalize().map_err(io("open", path))?;
    let prepared = Prepared::new(Source::open(&path)?, &options.policy)?;
    if !prepared.external.is_empty() {
        let external = prepared.external.len();
        return Err(Error::InPlaceExternal { path, external });
    }
    let output = OutputOptions {
        replace: true,
        ..OutputOptions::default()
    };
    let outputs = Outputs::create(vec![path], output)?;
    for output in outputs.files() {
        output.try_chown(&prepared.model.metadata()?);
    }
    prepared.seal(outputs, recipients, options, progress, |model| {
        model.check_in_place()
    })
}

/// A model with the plan for it.
struct Prepared {
    model: Input,
    external: Vec<Input>,
    files: Vec<File>,
    tensors: Vec<Tensor>,
    report: Report,
}

impl Prepared {
    fn new(source: Source, policy: &Policy) -> Result<Prepared> {
        let path = &source.input.path;
        let model = source.locate(source.input.len)?;
        if model
            .metadata_props
            .iter()
            .any(|prop| prop.key.starts_with(tail::PREFIX))
        {
            return Err(Error::AlreadyProtected { path: path.clone() });
        }
        let external = source.open_external(&model)?;
        let plan = plan::plan(&model, policy).map_err(Error::Policy)?;
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
        let (mut report, mut tensors) = describe(path, &files, &model, &plan);
        let violations = plan.violations(policy);
        report.violations = violations.iter().map(ToString::to_string).collect();
        tensors.sort_by_key(|tensor| (tensor.file, tensor.offset));
        drop(model);
        Ok(Prepared {
            model: source.input,
            external,
            files,
            tensors,
            report,
        })
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        std::iter::once(&self.model).chain(&self.external)
    }

    /// Seals the model into `outputs` and publishes them, if `may_publish` the model file.
    fn seal(
        mut self,
        outputs: Outputs,
        recipients: &Recipients,
        options: &ProtectOptions,
        progress: &dyn Progress,
        may_publish: impl FnOnce(&Input) -> Result<()>,
    ) -> Result<Report> {
        if !self.report.violations.is_empty() {
            return Err(Error::PolicyNotMet {
                path: self.model.path,
                violations: self.report.violations,
            });
        }
        let manifest = Manifest {
            format: FORMAT,
            suite: SUITE.to_owned(),
            chunk: options.chunk_bytes,
            tiers: 1,
            files: std::mem::take(&mut self.files),
            claims: options.claims.clone(),
            tensors: std::mem::take(&mut self.tensors),
        };
        let data_key = DataKey::generate().map_err(Error::Key)?;
        let key = recipients.wrap(&data_key).map_err(Error::Key)?;
        let manifest_bytes = serde_json::to_vec(&manifest)
            .map_err(|error| Error::Misuse(format!("the manifest cannot be written: {error}")))?;
        let manifest = Manifest::parse(&manifest_bytes).map_err(Error::Misuse)?;
        let targets = manifest.target_spans();
        let mut files = Vec::new();
        for ((input, output), targets) in self.inputs().zip(outputs.files()).zip(&targets) {
            let cloned = reflink::try_clone(output, input, targets);
            files.push(Sealed {
                input,
                output,
                targets,
                cloned,
            });
        }
        let keys = data_key.seal_keys(&manifest_bytes).map_err(Error::Key)?;
        let n_chunks = manifest.n_chunks();
        let mut tags = vec![0; n_chunks as usize * TAG_BYTES];
        let (places, _) = tags.as_chunks_mut();
        progress.begin(total_bytes(&manifest));
        let jobs = chunks(&manifest).zip(places);
        parallel::for_each(n_chunks, jobs, Workspace::new, |workspace, (chunk, tag)| {
            let file = files.get(chunk.file());
            let file = file.ok_or(Error::Internal("a chunk of a file that is not open"))?;
            *tag = file.seal(&keys, workspace, &chunk)?;
            progress.advance(chunk.window.len);
            Ok(())
        })?;
        let mac = keys.mac(&tags).to_vec();
        let artifact = Artifact {
            manifest,
            manifest_bytes,
            tags,
            mac,
            key,
        };
        let tail = artifact.encode();
        if let Some(model) = files.first() {
            model.output.write_all_at(&tail, self.model.len)?;
        }
        self.inputs().try_for_each(Input::check_unchanged)?;
        may_publish(&self.model)?;
        outputs.publish(self.inputs())?;
        let mut report = self.report;
        report.claims = artifact.manifest.claims;
        Ok(report)
    }
}

/// A file that is being sealed.
struct Sealed<'a> {
    input: &'a Input,
    output: &'a Output,
    targets: &'a SpanSet,
    /// Whether the output has the input's bytes already.
    cloned: bool,
}

impl Sealed<'_> {
    fn seal(
        &self,
        keys: &SealKeys,
        workspace: &mut Workspace,
        chunk: &Chunk,
    ) -> Result<[u8; TAG_BYTES]> {
        let start = chunk.window.start;
        let (bytes, targets, scratch) = workspace.prepare(chunk, self.targets);
        self.input.read_exact_at(bytes, start)?;
        let tag = keys
            .seal_chunk(chunk.id, bytes, targets, scratch)
            .map_err(Error::Key)?;
        match self.cloned {
            false => self.output.write_all_at(bytes, start)?,
            true => reflink::write_changed(self.output, bytes, start, targets)?,
        }
        Ok(tag.0)
    }
}

/// The manifest's entry for a tensor of the plan.
fn manifest_tensor(model: &Model<'_>, plan: &Plan, planned: &TensorPlan) -> Option<Tensor> {
    let tensor = model.tensors.get(planned.tensor.index())?;
    let Place {
        file,
        offset,
        element_bits,
        stride,
    } = Place::of(tensor)?;
    let owner = plan.operators.get(planned.operator)?.node;
    let others = planned
        .consumers
        .iter()
        .copied()
        .filter(|&node| node != owner);
    let mut operators = Vec::with_capacity(planned.consumers.len());
    operators.push(operator(model, owner));
    operators.extend(others.map(|id| operator(model, id)));
    let mut targets = Vec::with_capacity(2 * planned.targets.len());
    targets.extend(planned.targets.iter().flat_map(|run| [run.skip, run.take]));
    Some(Tensor {
        name: tensor.name.to_owned(),
        at: tensor.path.clone(),
        data_type: tensor.data_type.as_str_name().into(),
        dims: tensor.dims.clone(),
        operators,
        mode: Mode::Bytes,
        tier: planned.tier,
        file,
        offset,
        element_bits,
        stride,
        unit: planned.unit_elements,
        n: planned.n,
        targets,
    })
}

/// The plan as a report, and as the manifest's entries for what it encrypts.
fn describe(path: &Path, files: &[File], model: &Model<'_>, plan: &Plan) -> (Report, Vec<Tensor>) {
    let mut builder = Builder::new(path, files.to_vec(), model);
    let mut tensors = Vec::new();
    for planned in &plan.tensors {
        let owner = plan.operators.get(planned.operator);
        let entry = manifest_tensor(model, plan, planned);
        let (Some(owner), Some(entry)) = (owner, entry) else {
            continue;
        };
        let row = builder.add(model, owner.node, TensorRow::of_manifest(&entry));
        row.coefficient = Some(owner.coefficient);
        row.volume_bytes = Some(owner.volume_bytes);
        if !planned.targets.is_empty() {
            tensors.push(entry);
        }
    }
    for clear in &plan.clear {
        if let Some(tensor) = model.tensors.get(clear.tensor.index()) {
            let operators = clear.consumers.iter().map(|&node| operator(model, node));
            let (reason, operators) = (clear.reason.to_string(), operators.collect());
            builder.clear(ClearRow::new(tensor, clear.bytes, reason, operators));
        }
    }
    (builder.finish(), tensors)
}
