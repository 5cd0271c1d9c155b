//! One operation on many models: what `onnxseal batch` has.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use onnxseal_batch::{self as batch, Found, Operation, Options, Report, Shard, Watch};
use onnxseal_core::{
    Access, Checks, Edition, Location, Policy, Progress, ProtectOptions, Requirements, Resign,
    RotateOptions,
};
use pyo3::prelude::*;

use crate::call;
use crate::calls::{PolicyArgs, as_dict, output_options, requirements};
use crate::errors::{Fault, Result, usage};
use crate::keys::{
    AudienceArgs, IdentityArgs, Passphrase, SignedByArgs, SigningKeyArg, edition, edition_for,
    no_recipient, one_or_several, read_identities, require_identities,
};
use crate::reads::{NamesFiles, reads};

/// Does an operation on many models; returns the report. `onnxseal.batch` has a function for each
/// operation, which says what arguments it takes.
#[pyfunction(name = "_batch")]
#[pyo3(signature = (
    operation, sources, out = None, *, recipients = None, identity = None, require_claims = None,
    allowed_signers = None, signer = None,
    tier = None, policy = None, preset = None, coefficients = None, ranking = None,
    allow_clear = None, repack = false, runnable = false, comment = None, list_recipients = false, claims = None, sign_key = None,
    sign_key_passphrase = None, drop_signature = false, lists = Vec::new(), jobs = None,
    memory = None, checksum = false, fail_fast = false, shard = None, resume = false,
    records = true, replace = false, sync = None, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn run_batch<'py>(
    py: Python<'py>,
    operation: &str,
    sources: Sources,
    out: Option<PathBuf>,
    recipients: Option<AudienceArgs>,
    identity: Option<IdentityArgs>,
    require_claims: Option<Vec<String>>,
    allowed_signers: Option<PathBuf>,
    signer: Option<String>,
    tier: Option<String>,
    policy: Option<PathBuf>,
    preset: Option<String>,
    coefficients: Option<BTreeMap<String, f64>>,
    ranking: Option<PathBuf>,
    allow_clear: Option<Vec<String>>,
    repack: bool,
    runnable: bool,
    comment: Option<String>,
    list_recipients: bool,
    claims: Option<BTreeMap<String, String>>,
    sign_key: Option<PathBuf>,
    sign_key_passphrase: Option<&Passphrase>,
    drop_signature: bool,
    lists: Vec<PathBuf>,
    jobs: Option<NonZeroUsize>,
    memory: Option<u64>,
    checksum: bool,
    fail_fast: bool,
    shard: Option<(u64, u64)>,
    resume: bool,
    records: bool,
    replace: bool,
    sync: Option<bool>,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>> {
    let mut how = Options::default();
    how.out = out.map(Location::parse_folder).transpose()?;
    (how.jobs, how.memory_bytes) = (jobs.map(NonZeroUsize::get), memory);
    (how.resume, how.records, how.checksum) = (resume, records, checksum);
    (how.replace, how.fail_fast) = (replace, fail_fast);
    how.flush = output_options(replace, sync).flush;
    how.shard = shard.map(part).transpose()?;
    check(&how, operation)?;
    let policy = PolicyArgs::new(policy, preset, coefficients).ranked(ranking);
    let policy = policy.allowing(allow_clear);
    let signed_by = SignedByArgs::new(allowed_signers, signer)?;
    let signing_key = SigningKeyArg::new(sign_key, sign_key_passphrase);
    let named: [&dyn NamesFiles; 5] = [&recipients, &identity, &signed_by, &policy, &signing_key];
    how.spared = reads(&[], &named).files;
    how.spared.extend_from_slice(&lists);
    let job = Job {
        require: requirements(require_claims)?,
        claims: claims.unwrap_or_default(),
        sources: sources.0,
        operation,
        lists,
        how,
        policy,
        recipients,
        comment,
        list_recipients,
        identity,
        signed_by,
        tier,
        signing_key,
        repack,
        runnable,
        drop_signature,
    };
    let report = call::run(py, progress, move |progress| job.run(progress))?;
    Ok(as_dict(py, &report)?)
}

fn part((i, n): (u64, u64)) -> Result<Shard> {
    Shard::new(i, n).ok_or_else(|| usage("shard is (i, n), with i from 0 to n - 1"))
}

/// Refuses options that contradict each other.
fn check(how: &Options, operation: &str) -> Result<()> {
    if how.resume && !how.records {
        return Err(usage(
            "records say what an earlier run did: leave out resume or records",
        ));
    }
    let is_of_outputs = how.resume || how.checksum || !how.records;
    if how.out.is_none() && operation != "verify" && is_of_outputs {
        return Err(usage(
            "resume, records and checksum are for outputs in a folder: give out too, or leave them out",
        ));
    }
    Ok(())
}

/// A batch, before it reads any file.
struct Job<'a> {
    operation: &'a str,
    sources: Vec<Location>,
    lists: Vec<PathBuf>,
    how: Options,
    policy: PolicyArgs,
    recipients: Option<AudienceArgs>,
    comment: Option<String>,
    list_recipients: bool,
    identity: Option<IdentityArgs>,
    signed_by: Option<SignedByArgs>,
    tier: Option<String>,
    require: Option<Requirements>,
    claims: BTreeMap<String, String>,
    signing_key: Option<SigningKeyArg>,
    repack: bool,
    runnable: bool,
    drop_signature: bool,
}

impl Job<'_> {
    fn run(self, progress: &dyn Progress) -> Result<Report> {
        let policy = match self.operation {
            "protect" => Some(self.policy.read_or_full()?),
            _ => self.policy.read()?,
        };
        let policy = policy.map(for_many);
        let signing_key = self.signing_key.map(SigningKeyArg::read).transpose()?;
        let signed_by = self.signed_by.map(SignedByArgs::read).transpose()?;
        let recipients = || match self.recipients {
            Some(recipients) => recipients.read_with(self.comment.as_deref(), self.list_recipients),
            None => Err(no_recipient()),
        };
        let access = |identities, edition| Access {
            identities,
            signed_by: signed_by.as_ref(),
            edition,
        };
        let run = |operation: &Operation<'_>| {
            all(&self.sources, &self.lists, &self.how, operation, progress)
        };
        match self.operation {
            "protect" => {
                let mut options = ProtectOptions::new(policy.unwrap_or_default());
                if self.runnable {
                    options.policy.set_lock(false);
                }
                (options.repack, options.claims) = (self.repack, self.claims);
                options.signing_key = signing_key;
                run(&Operation::Protect {
                    recipients: (&recipients()?).into(),
                    options: &options,
                })
            }
            "unprotect" => {
                let identities = require_identities(self.identity, progress)?;
                let access = access(&identities, edition(self.tier.as_deref()));
                run(&Operation::Unprotect { access })
            }
            "rekey" => {
                let identities = require_identities(self.identity, progress)?;
                run(&Operation::Rekey {
                    access: access(&identities, Edition::Whole),
                    recipients: (&recipients()?).into(),
                })
            }
            "rotate" => {
                let identities = require_identities(self.identity, progress)?;
                let options = RotateOptions {
                    policy,
                    lock: self.runnable.then_some(false),
                    claims: self.claims,
                    signature: match signing_key {
                        Some(key) => Resign::With(key),
                        None if self.drop_signature => Resign::Drop,
                        None => Resign::Refuse,
                    },
                    external_data: None,
                };
                run(&Operation::Rotate {
                    access: access(&identities, Edition::Whole),
                    recipients: (&recipients()?).into(),
                    options: &options,
                })
            }
            "verify" => {
                let identities = read_identities(self.identity, progress)?;
                let checks = Checks {
                    identities: identities.as_ref(),
                    signed_by: signed_by.as_ref(),
                    edition: edition_for(self.tier.as_deref(), identities.as_ref())?,
                    require: self.require.as_ref(),
                    policy: policy.as_ref(),
                    ..Checks::default()
                };
                run(&Operation::Verify { checks })
            }
            other => Err(usage(format!("there is no operation {other:?}"))),
        }
    }
}

/// Does the operation on all models of `sources` and `lists`.
fn all(
    sources: &[Location],
    lists: &[PathBuf],
    how: &Options,
    operation: &Operation<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    if let Some(out) = &how.out {
        batch::check_sources(sources, out)?;
    }
    let found = batch::discover(sources, lists)?;
    let mut report = batch::run(found, operation, how, &All(progress))?;
    match report.sync_error.take() {
        Some(error) => Err(error.into()),
        None => Ok(report),
    }
}

/// Lets entries of a policy match nothing, since models of many kinds differ.
fn for_many(mut policy: Policy) -> Policy {
    policy.allow_unmatched();
    policy
}

/// Models, folders and globs: one or several.
pub struct Sources(Vec<Location>);

impl<'a, 'py> FromPyObject<'a, 'py> for Sources {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Sources> {
        let locations = one_or_several(&value, |value| {
            let path: PathBuf = value.extract()?;
            Ok(Location::parse_folder(path).map_err(Fault::from)?)
        });
        locations.map(Sources)
    }
}

/// The progress of all models together.
struct All<'p>(&'p dyn Progress);

impl Watch for All<'_> {
    fn begin(&self, _: usize, bytes: u64) {
        self.0.begin(bytes);
    }

    fn model<'w>(&'w self, _: &Found, bytes: u64) -> Box<dyn Progress + 'w> {
        Box::new(One {
            all: self.0,
            left: AtomicU64::new(bytes),
        })
    }

    fn stops(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// The progress of one model, in bytes of its files.
struct One<'p> {
    all: &'p dyn Progress,
    left: AtomicU64,
}

impl Progress for One<'_> {
    fn advance(&self, bytes: u64) {
        let take = |left: u64| Some(left.saturating_sub(bytes));
        let left = (self.left).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        self.all.advance(bytes.min(left.unwrap_or_default()));
    }

    fn is_cancelled(&self) -> bool {
        self.all.is_cancelled()
    }
}

impl Drop for One<'_> {
    /// A model that failed, or was done before, has been dealt with too.
    fn drop(&mut self) {
        self.all.advance(*self.left.get_mut());
    }
}
