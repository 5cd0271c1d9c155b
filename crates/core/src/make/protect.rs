//! Protects a model: plans, encrypts the weights at their offsets, authenticates everything, and
//! appends the tail.

use std::collections::BTreeMap;

use onnxseal_crypto::signature::SigningKey;
use onnxseal_plan::{self as plan, Gap, Policy, Wanted};
use onnxseal_store::{Bytes, Input, Location, Progress, Silent};
use zeroize::Zeroizing;

use crate::check::report::Report;
use crate::check::rows::RepackedRow;
use crate::error::{Error, Result};
use crate::format::dates::check_new;
use crate::format::manifest::draft::{Draft, OriginalDraft};
use crate::format::manifest::{DEFAULT_CHUNK_BYTES, File};
use crate::make::audience::Audience;
use crate::make::planned::{Planned, Purpose, tier_names};
use crate::make::rename::{Naming, choose_paths, rename};
use crate::make::repack::repack;
use crate::make::seal::Sealing;
use crate::pass::gaps::gaps;
use crate::pass::outputs::{Outputs, check_names};
use crate::pass::publish::Destination;
use crate::pass::score::score_files;
use crate::pass::source::Source;

/// How to protect a model.
#[derive(Debug)]
pub struct ProtectOptions {
    /// Which weights to encrypt, and how much of each.
    pub policy: Policy,
    /// Statements to authenticate along with the model.
    pub claims: BTreeMap<String, String>,
    /// The publisher's key, to sign the protected model.
    pub signing_key: Option<SigningKey>,
    /// The path of the external data file of the protected model, relative to its folder; for
    /// several files, the folder for them. If absent, they keep their paths, or are named after the
    /// output if they would collide with the original's. Ignored if
    /// [`Publication::keep_paths`](crate::Publication::keep_paths) is set.
    pub external_data: Option<String>,
    /// Whether to rewrite what cannot be encrypted where it lies: elements that are coded as varints
    /// move to `raw_data`, and bytes of external data files in which no tensor lies become zeros.
    /// The original is then the rewritten model.
    pub repack: bool,
    /// Bytes in a chunk: a power of two from 64 KiB to 16 MiB.
    pub chunk_bytes: u64,
}

impl ProtectOptions {
    /// Options with `policy`, no claims and no signature.
    pub fn new(policy: Policy) -> ProtectOptions {
        ProtectOptions {
            policy,
            claims: BTreeMap::new(),
            signing_key: None,
            external_data: None,
            repack: false,
            chunk_bytes: DEFAULT_CHUNK_BYTES,
        }
    }
}

/// Reports which weights of the model at `location` [`protect`] would encrypt, without writing
/// anything. If the plan falls short of the policy's demands, [`Report::violations`] says so.
pub fn plan(location: impl Into<Location>, policy: &Policy) -> Result<Report> {
    let source = Source::open(&location.into())?;
    let prepared = prepare(source, policy, false, None, Purpose::Report, &Silent)?;
    let mut report = prepared.planned.builder.finish();
    report.locked = is_locked(policy);
    Ok(report)
}

fn is_locked(policy: &Policy) -> bool {
    policy.lock().unwrap_or(true)
}

/// Protects the model at `location`, to `destination`. Only `recipients` can open the result.
///
/// New external files go beside the model file under their relative paths, or under new names if
/// they would collide with the original's: see [`ProtectOptions::external_data`].
///
/// In place, the result replaces the model in one step, once it is on the disk. If the file system
/// can share blocks, only changed ones are written. Permissions and, if possible, the owner stay.
/// Other hard links keep the original. The model is replaced last and refers to new external files.
/// The original's external files stay, because other models may use them too:
/// [`Report::original_files`] names them.
pub fn protect<'a>(
    location: impl Into<Location>,
    destination: impl Into<Destination<'a>>,
    recipients: impl Into<Audience<'a>>,
    options: &ProtectOptions,
    progress: &dyn Progress,
) -> Result<Report> {
    check_new(&options.claims, &options.claims)?;
    let destination = destination.into();
    let location = destination.source(location.into())?;
    let output = destination.renames(&location);
    let naming = output.map(|output| (output, options.external_data.as_deref()));
    let source = Source::open(&location)?;
    let policy = &options.policy;
    let prepared = prepare(
        source,
        policy,
        options.repack,
        naming,
        Purpose::Seal,
        progress,
    )?;
    let (inputs, files, planned) = (prepared.inputs, prepared.files, prepared.planned);
    let model = inputs.first().ok_or(Error::Internal("no model file"))?;
    destination.lock(model)?;
    let outputs = Outputs::begin(destination, &files, inputs.iter())?;
    let mut draft = Draft {
        chunk: options.chunk_bytes,
        claims: options.claims.clone(),
        original: prepared.original,
        tiers: tier_names(policy),
        lock: is_locked(policy),
        ..Draft::of_files(files)
    };
    let (manifest_bytes, mut report) = planned.encode(&model.path, &mut draft)?;
    report.locked = draft.lock;
    report.claims = draft.claims;
    report.repacked = prepared.repacked;
    let sealing = Sealing {
        inputs: inputs.iter().collect(),
        opens: None,
        structure: None,
        zeroed: prepared.zeroed,
        manifest_bytes,
        recipients: recipients.into(),
        weights: report.weights,
        signing_key: options.signing_key.as_ref(),
    };
    sealing.run(&outputs, progress)?;
    outputs.publish(inputs.iter())?;
    Ok(report)
}

struct Prepared {
    /// The model file, then its external files.
    inputs: Vec<Input>,
    files: Vec<File>,
    /// How to restore the original, if external files were renamed.
    original: Option<OriginalDraft>,
    zeroed: Vec<Gap>,
    repacked: Option<RepackedRow>,
    planned: Planned,
}

fn prepare(
    source: Source,
    policy: &Policy,
    repacks: bool,
    naming: Option<Naming<'_>>,
    purpose: Purpose,
    progress: &dyn Progress,
) -> Result<Prepared> {
    let (mut source, zeroed, repacked) = match repacks {
        true => repack(source)?,
        false => (source, Vec::new(), None),
    };
    let model = source.locate(source.input.len)?;
    source.check_protectable(&model)?;
    let external = source.open_external(&model)?;
    let gaps = match repacks {
        true => Vec::new(),
        false => gaps(&model, &external)?,
    };
    let paths = std::iter::once("").chain(model.external_files.iter().map(String::as_str));
    let inputs = || std::iter::once(&source.input).chain(&external);
    let files = paths.zip(inputs()).map(|(path, input)| File {
        path: path.to_owned(),
        bytes: input.len,
    });
    let mut files: Vec<File> = files.collect();
    let names = naming.map_or(Ok(None), |naming| choose_paths(naming, &files, inputs()))?;
    drop(model);
    let path = source.input.path.clone();
    let mut original = None;
    if let Some(names) = names {
        // `unprotect` will write the original's names: check them before they are replaced.
        check_names(&path, &files)?;
        // Read all bytes: the source may hold only the structure.
        let bytes = Zeroizing::new(source.input.read_all()?);
        let (edited, back) = rename(&path, bytes, &mut files, names)?;
        source = Source::of(source.input.edited(Bytes::from_owner(edited)));
        original = Some(back);
    }
    // Offsets differ in an edited model.
    let model = source.locate(source.input.len)?;
    if !(model.external_files.iter()).eq(files.iter().skip(1).map(|file| &file.path)) {
        return Err(Error::Internal("a renamed file has another name"));
    }
    let inputs: Vec<&Input> = std::iter::once(&source.input).chain(&external).collect();
    let score = |wanted: &[Wanted]| score_files(&model, &files, &inputs, wanted, progress);
    let mut plan = plan::plan(&model, policy, score)?;
    plan.gaps = gaps;
    let planned = Planned::new(&path, &files, model, policy, purpose, plan)?;
    Ok(Prepared {
        inputs: std::iter::once(source.input).chain(external).collect(),
        files,
        original,
        zeroed,
        repacked,
        planned,
    })
}
