//! Protecting a model: plan, encrypt in place, authenticate everything, append the tail.

use std::collections::BTreeMap;

use onnxseal_crypto::signature::SigningKey;
use onnxseal_onnx::{Model, tail};
use onnxseal_plan::{Policy, Wanted};
use onnxseal_store::{Input, Location, OutputOptions};

use crate::check::report::Report;
use crate::error::{Error, Result, rule};
use crate::format::manifest::draft::{Draft, OriginalDraft};
use crate::format::manifest::{DEFAULT_CHUNK_BYTES, File, Manifest};
use crate::make::audience::Audience;
use crate::make::planned::{Planned, Purpose, tier_names};
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
    let prepared = Prepared::new(source, policy, Naming::Keep, Purpose::Report, &Silent)?;
    let mut report = prepared.planned.into_report(Vec::new())?;
    report.locked = is_locked(policy);
    Ok(report)
}

/// Whether a model protected by `policy` has the lock.
fn is_locked(policy: &Policy) -> bool {
    policy.lock().unwrap_or(true)
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
    let prepared = Prepared::new(source, &options.policy, naming, Purpose::Seal, progress)?;
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
    let prepared = Prepared::new(
        source,
        &options.policy,
        Naming::Keep,
        Purpose::Seal,
        progress,
    )?;
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
    let prepared = Prepared::new(
        Source::open(&location)?,
        &options.policy,
        naming,
        Purpose::Seal,
        progress,
    )?;
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
        purpose: Purpose,
        progress: &dyn Progress,
    ) -> Result<Prepared> {
        let path = source.input.path.clone();
        let model = source.locate(source.input.len)?;
        if tail::is_in(&model) {
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
            let planned = Planned::new(&path, &files, model, policy, purpose, |model, wanted| {
                score(&source, model, &files, wanted)
            })?;
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
        let mut planned = Planned::new(&path, &files, model, policy, purpose, |model, wanted| {
            score(&source, model, &files, wanted)
        })?;
        planned.original_files = original.files(&files);
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

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        std::iter::once(&self.model).chain(&self.external)
    }

    /// Seals the model into `outputs`, and publishes them if `check` of the model file does not fail.
    fn seal(
        self,
        outputs: Outputs,
        recipients: Audience<'_>,
        options: &ProtectOptions,
        progress: &dyn Progress,
        check: impl FnOnce(&Input) -> Result<()>,
    ) -> Result<Report> {
        let Prepared {
            model,
            external,
            files,
            original,
            mut planned,
        } = self;
        let inputs = || std::iter::once(&model).chain(&external);
        let weights = planned.weights;
        let draft = Draft {
            chunk: options.chunk_bytes,
            claims: options.claims.clone(),
            tensors: planned.take_tensors(&model.path)?,
            original,
            tiers: tier_names(&options.policy),
            lock: is_locked(&options.policy),
            ..Draft::of_files(files)
        };
        let manifest_bytes = draft.encode()?;
        let mut report = planned.into_report(draft.tensors)?;
        report.locked = draft.lock;
        report.claims = draft.claims;
        let sealing = Sealing {
            plaintext: Plaintext::Files(inputs().collect()),
            manifest: Manifest::parse(&manifest_bytes).map_err(rule)?,
            manifest_bytes,
            recipients,
            weights,
            signing_key: options.signing_key.as_ref(),
        };
        sealing.run(&outputs, progress)?;
        check(&model)?;
        outputs.publish(inputs())?;
        Ok(report)
    }
}
