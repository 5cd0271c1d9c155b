//! Protecting: plan, encrypt in place, authenticate everything, append the tail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onnxseal_crypto::wrap::Recipients;
use onnxseal_crypto::{DataKey, SealKeys};
use onnxseal_onnx::model::Payload;
use onnxseal_onnx::{Model, tail};
use onnxseal_plan::{self as plan, Plan, Policy, TensorPlan};

use crate::artifact::{Artifact, TAG_BYTES};
use crate::chunks::{Chunk, Workspace, chunks};
use crate::error::{Error, Result, io};
use crate::input::Input;
use crate::manifest::{DEFAULT_CHUNK_BYTES, FORMAT, File, Manifest, Mode, SUITE, Tensor};
use crate::open::total_bytes;
use crate::outputs::{self, OutputOptions, Outputs};
use crate::parallel;
use crate::progress::Progress;
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
    let source = Source::open(path)?;
    Ok(Prepared::new(&source, policy)?.report)
}

/// Protects the model at `path` and writes the result to `output`, external files beside it under
/// their relative paths. Only `recipients` can open it.
///
/// # Errors
/// `Malformed`, `PolicyNotMet`, `Io`; `Usage` when the model is protected already, an output exists
/// (unless `options.output.replace`) or is an input. Nothing appears on failure.
pub fn protect(
    path: &Path,
    output: &Path,
    recipients: &Recipients,
    options: &ProtectOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    let source = Source::open(path)?;
    let prepared = Prepared::new(&source, &options.policy)?;
    let inputs = std::iter::once(&source.input).chain(&prepared.external);
    let outputs = outputs::paths(output, &prepared.files, inputs)?;
    prepared.seal(
        &source,
        outputs,
        options.output,
        recipients,
        options,
        progress,
    )
}

/// Replaces the model at `path` by its protected form, in one step.
///
/// # Errors
/// As [`protect`]; `Usage` for a model with external files, which cannot be replaced in one step.
pub fn protect_in_place(
    path: &Path,
    recipients: &Recipients,
    options: &ProtectOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    // A link to the model stays a link.
    let path = path.canonicalize().map_err(io("open", path))?;
    let source = Source::open(&path)?;
    let prepared = Prepared::new(&source, &options.policy)?;
    if !prepared.external.is_empty() {
        return Err(Error::InPlaceExternal {
            path,
            external: prepared.external.len(),
        });
    }
    let output = OutputOptions {
        replace: true,
        ..options.output
    };
    prepared.seal(
        &source,
        vec![path.clone()],
        output,
        recipients,
        options,
        progress,
    )
}

/// A model with the plan for it.
struct Prepared {
    /// The external files.
    external: Vec<Input>,
    files: Vec<File>,
    tensors: Vec<Tensor>,
    report: Report,
}

impl Prepared {
    fn new(source: &Source, policy: &Policy) -> Result<Prepared> {
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
        Ok(Prepared {
            external,
            files,
            tensors,
            report,
        })
    }

    fn seal(
        self,
        source: &Source,
        paths: Vec<PathBuf>,
        output: OutputOptions,
        recipients: &Recipients,
        options: &ProtectOptions,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let path = &source.input.path;
        if !self.report.violations.is_empty() {
            let violations = self.report.violations;
            return Err(Error::PolicyNotMet {
                path: path.clone(),
                violations,
            });
        }
        let manifest = Manifest {
            format: FORMAT,
            suite: SUITE.to_owned(),
            chunk: options.chunk_bytes,
            tiers: 1,
            files: self.files,
            claims: options.claims.clone(),
            tensors: self.tensors,
        };
        let data_key = DataKey::generate().map_err(Error::Key)?;
        let key = recipients.wrap(&data_key).map_err(Error::Key)?;
        let manifest_bytes = serde_json::to_vec(&manifest)
            .map_err(|error| Error::Misuse(format!("the manifest cannot be written: {error}")))?;
        let manifest = Manifest::parse(&manifest_bytes).map_err(Error::Misuse)?;
        let inputs: Vec<&Input> = std::iter::once(&source.input)
            .chain(&self.external)
            .collect();
        let outputs = Outputs::create(paths, inputs.iter().copied(), output)?;
        let sealer = Sealer {
            keys: data_key.seal_keys(&manifest_bytes).map_err(Error::Key)?,
            targets: manifest.target_spans(),
            inputs: &inputs,
            outputs: &outputs,
        };
        let mut tags = vec![0; manifest.n_chunks() as usize * TAG_BYTES];
        let (places, _) = tags.as_chunks_mut();
        progress.begin(total_bytes(&manifest));
        let jobs = chunks(&manifest).zip(places);
        parallel::for_each(jobs, Workspace::new, |workspace, (chunk, tag)| {
            *tag = sealer.seal(workspace, &chunk)?;
            progress.advance(chunk.window.len);
            Ok(())
        })?;
        let mac = sealer.keys.mac(&tags).to_vec();
        let artifact = Artifact {
            manifest,
            manifest_bytes,
            tags,
            mac,
            key,
        };
        let tail = artifact.encode();
        outputs.model()?.write_all_at(&tail, source.input.len)?;
        inputs
            .iter()
            .try_for_each(|input| input.check_unchanged())?;
        outputs.publish()?;
        let mut report = self.report;
        report.claims = artifact.manifest.claims;
        Ok(report)
    }
}

/// Seals chunks from the inputs to the outputs.
struct Sealer<'a> {
    keys: SealKeys,
    targets: Vec<SpanSet>,
    inputs: &'a [&'a Input],
    outputs: &'a Outputs,
}

impl Sealer<'_> {
    fn seal(&self, workspace: &mut Workspace, chunk: &Chunk) -> Result<[u8; TAG_BYTES]> {
        let file = chunk.file();
        let (Some(input), Some(targets)) = (self.inputs.get(file), self.targets.get(file)) else {
            return Err(Error::Misuse(format!("no file {file}")));
        };
        let (bytes, targets, scratch) = workspace.prepare(chunk, targets);
        input.read_exact_at(bytes, chunk.window.start)?;
        let tag = self
            .keys
            .seal_chunk(chunk.id, bytes, targets, scratch)
            .map_err(Error::Key)?;
        self.outputs.write_chunk(chunk, bytes, targets)?;
        Ok(tag.0)
    }
}

/// The manifest's entry for a tensor of the plan.
fn manifest_tensor(model: &Model<'_>, plan: &Plan, planned: &TensorPlan) -> Option<Tensor> {
    let tensor = model.tensors.get(planned.tensor.index())?;
    let (file, offset, element_bits, stride) = match tensor.payload {
        Payload::Dense {
            file,
            span,
            element_bits,
            ..
        } => (file.0, span.start, element_bits, None),
        Payload::Strided {
            start,
            stride,
            element_bits,
            ..
        } => (0, start, element_bits, Some(stride)),
        Payload::Empty | Payload::Unpatchable(_) => return None,
    };
    let owner = plan.operators.get(planned.operator)?.node;
    let others = planned
        .consumers
        .iter()
        .copied()
        .filter(|&node| node != owner);
    Some(Tensor {
        name: tensor.name.to_owned(),
        at: tensor.path.clone(),
        data_type: tensor.data_type.as_str_name().to_owned(),
        dims: tensor.dims.clone(),
        operators: std::iter::once(owner)
            .chain(others)
            .map(|id| operator(model, id))
            .collect(),
        mode: Mode::Bytes,
        tier: planned.tier,
        file,
        offset,
        element_bits,
        stride,
        unit: planned.unit_elements,
        n: planned.n,
        targets: planned
            .targets
            .iter()
            .flat_map(|run| [run.skip, run.take])
            .collect(),
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
