//! One operation on many models: what `onnxseal batch` has.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use onnxseal_batch::{self as batch, Found, Operation, Options, Shard, Watch};
use onnxseal_core::{
    Access, Checks, Edition, Location, Policy, Progress, ProtectOptions, Resign, RotateOptions,
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
    let shard = shard.map(|(i, n)| {
        Shard::new(i, n).ok_or_else(|| usage("shard is (i, n), with i from 0 to n - 1"))
    });
    let mut how = Options::default();
    how.out = out.map(Location::parse_folder).transpose()?;
    how.jobs = jobs.map(NonZeroUsize::get);
    how.memory_bytes = memory;
    how.resume = resume;
    how.records = records;
    how.checksum = checksum;
    how.replace = replace;
    how.flush = output_options(replace, sync).flush;
    how.fail_fast = fail_fast;
    how.shard = shard.transpose()?;
    if resume && !records {
        return Err(usage(
            "records say what an earlier run did: leave out resume or records",
        ));
    }
    if how.out.is_none() && operation != "verify" && (resume || checksum || !records) {
        return Err(usage(
            "resume, records and checksum are for outputs in a folder: give out too, or leave them out",
        ));
    }
    let policy = PolicyArgs::new(policy, preset, coefficients).ranked(ranking);
    let policy = policy.allowing(allow_clear);
    let signed_by = SignedByArgs::new(allowed_signers, signer)?;
    let require = requirements(require_claims)?;
    let signing_key = SigningKeyArg::new(sign_key, sign_key_passphrase);
    let named: [&dyn NamesFiles; 5] = [&recipients, &identity, &signed_by, &policy, &signing_key];
    how.spared = reads(&[], &named).files;
    how.spared.extend_from_slice(&lists);
    let report = call::run(py, progress, move |progress| {
        let policy = match operation {
            "protect" => Some(policy.read_or_full()?),
            _ => policy.read()?,
        };
        let policy = policy.map(for_many);
        let signing_key = signing_key.map(SigningKeyArg::read).transpose()?;
        let signed_by = signed_by.map(SignedByArgs::read).transpose()?;
        let recipients = || match recipients {
            Some(recipients) => recipients.read_with(comment.as_deref(), list_recipients),
            None => Err(no_recipient()),
        };
        let access = |identities, edition| Access {
            identities,
            signed_by: signed_by.as_ref(),
            edition,
        };
        let run = |operation: &Operation<'_>| {
            if let Some(out) = &how.out {
                batch::check_sources(&sources.0, out)?;
            }
            let found = batch::discover(&sources.0, &lists)?;
            let report = batch::run(found, operation, &how, &All(progress))?;
            match report.sync_error {
                Some(error) => Err(error.into()),
                None => Ok::<_, Fault>(report),
            }
        };
        match operation {
            "protect" => {
                let mut options = ProtectOptions::new(policy.unwrap_or_default());
                options.repack = repack;
                if runnable {
                    options.policy.set_lock(false);
                }
                options.claims = claims.unwrap_or_default();
                options.signing_key = signing_key;
                run(&Operation::Protect {
                    recipients: (&recipients()?).into(),
                    options: &options,
                })
            }
            "unprotect" => {
                let identities = require_identities(identity, progress)?;
                let access = access(&identities, edition(tier.as_deref()));
                run(&Operation::Unprotect { access })
            }
            "rekey" => {
                let identities = require_identities(identity, progress)?;
                run(&Operation::Rekey {
                    access: access(&identities, Edition::Whole),
                    recipients: (&recipients()?).into(),
                })
            }
            "rotate" => {
                let identities = require_identities(identity, progress)?;
                let options = RotateOptions {
                    policy,
                    lock: runnable.then_some(false),
                    claims: claims.unwrap_or_default(),
                    signature: match signing_key {
                        Some(key) => Resign::With(key),
                        None if drop_signature => Resign::Drop,
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
                let identities = read_identities(identity, progress)?;
                let checks = Checks {
                    identities: identities.as_ref(),
                    signed_by: signed_by.as_ref(),
                    edition: edition_for(tier.as_deref(), identities.as_ref())?,
                    require: require.as_ref(),
                    policy: policy.as_ref(),
                    ..Checks::default()
                };
                run(&Operation::Verify { checks })
            }
            _ => Err(usage(format!("there is no operation {operation:?}"))),
        }
    })?;
    Ok(as_dict(py, &report)?)
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
