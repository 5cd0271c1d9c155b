//! The calls on files: what the command line has as subcommands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onnxseal_core::{
    self as core, Checks, Destination, Error, Flush, NamedInputs, OutputOptions, Policy,
    PolicyChoice, ProtectOptions, Publication, Ranking, Requirements, Resign, RotateOptions,
    open_named,
};
use pyo3::prelude::*;
use serde::Serialize;

use crate::call;
use crate::errors::{Fault, Result, not_json, usage};
use crate::keys::{
    AudienceArgs, IdentityArgs, OpeningArgs, Passphrase, SignedByArgs, SigningKeyArg, edition_for,
    read_identities,
};
use crate::reads::{NamesFiles, reads};
use crate::source::{Out, OutputArg, Source};

/// Encrypts the weights of a model and authenticates all of it; returns the report.
///
/// `preset` says how much. "full", the default, is everything but what the graph's shapes are
/// computed from, and costs nothing on processors with AES instructions. What cannot be encrypted
/// where it lies raises `PolicyNotMetError`: `repack=True` rewrites it (the original is then the
/// rewritten model, equal in every value), `allow_clear` names what may stay in clear. "strong" (half of the bytes) and "balanced" (about
/// a sixth) are for devices without these instructions, where they open in less time, and for
/// tiers. "light" (a twentieth) stops no determined attacker. What is not encrypted is in clear: an
/// attacker who has the public model that yours was fine-tuned from gets much of yours back from a
/// partial preset.
///
/// Without the key, programs refuse the protected model. With `runnable=True` they run it, and get
/// wrong answers.
#[pyfunction]
#[pyo3(signature = (
    model, out = None, *, recipients, policy = None, preset = None, coefficients = None, ranking = None,
    allow_clear = None, repack = false, runnable = false, external_data = None, comment = None,
    list_recipients = false, claims = None, sign_key = None, sign_key_passphrase = None, in_place = false, replace = false, sync = None, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn protect<'py>(
    py: Python<'py>,
    model: Source,
    out: Option<OutputArg>,
    recipients: AudienceArgs,
    policy: Option<PathBuf>,
    preset: Option<String>,
    coefficients: Option<BTreeMap<String, f64>>,
    ranking: Option<PathBuf>,
    allow_clear: Option<Vec<String>>,
    repack: bool,
    runnable: bool,
    external_data: Option<String>,
    comment: Option<String>,
    list_recipients: bool,
    claims: Option<BTreeMap<String, String>>,
    sign_key: Option<PathBuf>,
    sign_key_passphrase: Option<&Passphrase>,
    in_place: bool,
    replace: bool,
    sync: Option<bool>,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>> {
    if out.is_some() == in_place {
        return Err(usage("give either the output, or in_place=True"));
    }
    let model = model.location()?;
    let policy = PolicyArgs::new(policy, preset, coefficients).ranked(ranking);
    let policy = policy.allowing(allow_clear);
    let signing_key = SigningKeyArg::new(sign_key, sign_key_passphrase);
    let reads = reads(&[&model], &[&recipients, &policy, &signing_key]);
    let (out, destination) = destination(out, &reads, output_options(replace, sync))?;
    let report = call::run(py, progress, move |progress| {
        let mut options = ProtectOptions::new(policy.read_or_full()?);
        options.repack = repack;
        if runnable {
            options.policy.set_lock(false);
        }
        options.external_data = external_data;
        options.claims = claims.unwrap_or_default();
        options.signing_key = signing_key.map(SigningKeyArg::read).transpose()?;
        let recipients = recipients.read_with(comment.as_deref(), list_recipients)?;
        let made = core::protect(model, destination, &recipients, &options, progress);
        Ok::<_, Fault>(made?)
    });
    Ok(as_dict(py, &finish(out, py, report)?)?)
}

/// Tells what `protect` would encrypt, without writing anything. The report's `violations` say
/// where the plan falls short of the policy's requirements.
#[pyfunction]
#[pyo3(signature = (
    model, *, policy = None, preset = None, coefficients = None, ranking = None, allow_clear = None
))]
pub fn plan(
    py: Python<'_>,
    model: Source,
    policy: Option<PathBuf>,
    preset: Option<String>,
    coefficients: Option<BTreeMap<String, f64>>,
    ranking: Option<PathBuf>,
    allow_clear: Option<Vec<String>>,
) -> Result<Bound<'_, PyAny>> {
    let model = model.location()?;
    let policy = PolicyArgs::new(policy, preset, coefficients).ranked(ranking);
    let policy = policy.allowing(allow_clear);
    let report = call::run(py, None, move |_| {
        let policy = policy.read_or_full()?;
        Ok::<_, Fault>(core::plan(model, &policy)?)
    })?;
    Ok(as_dict(py, &report)?)
}

/// Whether a model's metadata says that it is protected. Only a key can tell whether it opens.
#[pyfunction]
pub fn is_protected(py: Python<'_>, model: Source) -> Result<bool> {
    let model = model.location()?;
    call::run(py, None, move |_| core::is_protected(model))
}

/// Whether a file, which need not be a model, has any part of what protection adds.
#[pyfunction]
#[pyo3(name = "_is_marked")]
pub fn is_marked(py: Python<'_>, model: Source) -> Result<bool> {
    let model = model.location()?;
    call::run(py, None, move |_| core::is_marked(model))
}

/// Tells what is encrypted in a protected model. Needs no key, and so cannot tell whether the
/// answer is authentic.
#[pyfunction]
pub fn inspect(py: Python<'_>, model: Source) -> Result<Bound<'_, PyAny>> {
    let model = model.location()?;
    let report = call::run(py, None, move |_| core::inspect(model))?;
    Ok(as_dict(py, &report)?)
}

/// Checks a protected model: its structure, a policy, and with an identity every byte.
#[pyfunction]
#[pyo3(signature = (
    model, *, identity = None, require_claims = None, allowed_signers = None, signer = None, tier = None, policy = None, preset = None,
    ranking = None, allow_clear = None, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn verify<'py>(
    py: Python<'py>,
    model: Source,
    identity: Option<IdentityArgs>,
    require_claims: Option<Vec<String>>,
    allowed_signers: Option<PathBuf>,
    signer: Option<String>,
    tier: Option<String>,
    policy: Option<PathBuf>,
    preset: Option<String>,
    ranking: Option<PathBuf>,
    allow_clear: Option<Vec<String>>,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>> {
    let model = model.location()?;
    let signed_by = SignedByArgs::new(allowed_signers, signer)?;
    let require = requirements(require_claims)?;
    let policy = PolicyArgs::new(policy, preset, None).ranked(ranking);
    let policy = policy.allowing(allow_clear);
    let verified = call::run(py, progress, move |progress| {
        let identities = read_identities(identity, progress)?;
        let signed_by = signed_by.map(SignedByArgs::read).transpose()?;
        let policy = policy.read()?;
        let checks = Checks {
            identities: identities.as_ref(),
            signed_by: signed_by.as_ref(),
            edition: edition_for(tier.as_deref(), identities.as_ref())?,
            require: require.as_ref(),
            policy: policy.as_ref(),
            ..Checks::default()
        };
        Ok::<_, Fault>(core::verify(model, &checks, progress)?)
    })?;
    Ok(as_dict(py, &verified)?)
}

/// Reads the claims that models must make, if there are any.
pub fn requirements(claims: Option<Vec<String>>) -> Result<Option<Requirements>> {
    Ok(claims
        .map(|claims| Requirements::parse(&claims))
        .transpose()?)
}

/// Restores the original of a protected model, byte for byte, or with `tier` the edition of that
/// tier.
#[pyfunction]
#[pyo3(signature = (
    model, out, *, identity = None, allowed_signers = None, signer = None, tier = None, replace = false, sync = None,
    progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn unprotect<'py>(
    py: Python<'py>,
    model: Source,
    out: OutputArg,
    identity: Option<IdentityArgs>,
    allowed_signers: Option<PathBuf>,
    signer: Option<String>,
    tier: Option<String>,
    replace: bool,
    sync: Option<bool>,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<()> {
    let model = model.location()?;
    let signed_by = SignedByArgs::new(allowed_signers, signer)?;
    let opening = OpeningArgs::new(identity, signed_by, tier);
    let out = Out::open(out, &reads(&[&model], &[&opening]))?;
    let publication = Publication::new(out.location(), output_options(replace, sync));
    let unprotected = call::run(py, progress, move |progress| {
        let opened = opening.read(progress)?;
        core::unprotect(model, publication, opened.access(), progress)?;
        Ok::<_, Fault>(())
    });
    out.finish(py, unprotected)
}

/// Wraps the data key of a protected model to other recipients, in a copy or in place. The weights
/// stay as they are. Returns whether the identity still opens the result, as `still_opens`.
#[pyfunction]
#[pyo3(signature = (
    model, out = None, *, recipients, identity = None, allowed_signers = None, signer = None, replace = false, sync = None,
    progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn rekey<'py>(
    py: Python<'py>,
    model: Source,
    out: Option<OutputArg>,
    recipients: AudienceArgs,
    identity: Option<IdentityArgs>,
    allowed_signers: Option<PathBuf>,
    signer: Option<String>,
    replace: bool,
    sync: Option<bool>,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>> {
    let model = model.location()?;
    let signed_by = SignedByArgs::new(allowed_signers, signer)?;
    let opening = OpeningArgs::new(identity, signed_by, None);
    let reads = reads(&[&model], &[&recipients, &opening]);
    let (out, destination) = destination(out, &reads, output_options(replace, sync))?;
    let rekeyed = call::run(py, progress, move |progress| {
        let (opened, recipients) = (opening.read(progress)?, recipients.read()?);
        let access = opened.access();
        let rekeyed = core::rekey(model, destination, access, &recipients, progress);
        Ok::<_, Fault>(rekeyed?)
    });
    let still_opens = finish(out, py, rekeyed)?;
    let report = BTreeMap::from([("still_opens", still_opens)]);
    Ok(as_dict(py, &report)?)
}

/// Encrypts a protected model anew, under a new data key, to a new file or in place; returns the
/// report. A model with external data is replaced in place if `external_data` names the new one; the
/// old one stays, and the report's `left_files` name it.
#[pyfunction]
#[pyo3(signature = (
    model, out = None, *, recipients, identity = None, allowed_signers = None, signer = None, policy = None, preset = None,
    coefficients = None, ranking = None, allow_clear = None, runnable = false, claims = None, sign_key = None, sign_key_passphrase = None,
    drop_signature = false, external_data = None, replace = false, sync = None, progress = None
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub fn rotate<'py>(
    py: Python<'py>,
    model: Source,
    out: Option<OutputArg>,
    recipients: AudienceArgs,
    identity: Option<IdentityArgs>,
    allowed_signers: Option<PathBuf>,
    signer: Option<String>,
    policy: Option<PathBuf>,
    preset: Option<String>,
    coefficients: Option<BTreeMap<String, f64>>,
    ranking: Option<PathBuf>,
    allow_clear: Option<Vec<String>>,
    runnable: bool,
    claims: Option<BTreeMap<String, String>>,
    sign_key: Option<PathBuf>,
    sign_key_passphrase: Option<&Passphrase>,
    drop_signature: bool,
    external_data: Option<String>,
    replace: bool,
    sync: Option<bool>,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyAny>> {
    let model = model.location()?;
    let signed_by = SignedByArgs::new(allowed_signers, signer)?;
    let opening = OpeningArgs::new(identity, signed_by, None);
    let policy = PolicyArgs::new(policy, preset, coefficients).ranked(ranking);
    let policy = policy.allowing(allow_clear);
    let signing_key = SigningKeyArg::new(sign_key, sign_key_passphrase);
    let reads = reads(&[&model], &[&recipients, &opening, &policy, &signing_key]);
    let (out, destination) = destination(out, &reads, output_options(replace, sync))?;
    let report = call::run(py, progress, move |progress| {
        let options = RotateOptions {
            policy: policy.read()?,
            lock: runnable.then_some(false),
            claims: claims.unwrap_or_default(),
            signature: match signing_key {
                Some(key) => Resign::With(key.read()?),
                None if drop_signature => Resign::Drop,
                None => Resign::Refuse,
            },
            external_data,
        };
        let (opened, recipients) = (opening.read(progress)?, recipients.read()?);
        let access = opened.access();
        let made = core::rotate(model, destination, access, &recipients, &options, progress);
        Ok::<_, Fault>(made?)
    });
    Ok(as_dict(py, &finish(out, py, report)?)?)
}

/// Where the result goes: `out` or, without it, the place of the model.
fn destination(
    out: Option<OutputArg>,
    reads: &NamedInputs,
    options: OutputOptions,
) -> Result<(Option<Out>, Destination<'static>)> {
    let out = out.map(|out| Out::open(out, reads)).transpose()?;
    let destination = Destination::new(out.as_ref().map(Out::location), options);
    Ok((out, destination))
}

fn finish<T>(out: Option<Out>, py: Python<'_>, made: Result<T>) -> Result<T> {
    match out {
        Some(out) => out.finish(py, made),
        None => made,
    }
}

/// Which weights to encrypt, and how much of each.
pub struct PolicyArgs {
    file: Option<PathBuf>,
    preset: Option<String>,
    coefficients: Option<BTreeMap<String, f64>>,
    ranking: Option<PathBuf>,
    allow_clear: Vec<String>,
}

impl NamesFiles for PolicyArgs {
    fn add_to(&self, files: &mut Vec<PathBuf>) {
        files.extend(self.file.iter().chain(&self.ranking).cloned());
    }
}

impl PolicyArgs {
    /// Makes the arguments of a policy file, a preset's name, and shares by operator type.
    pub fn new(
        file: Option<PathBuf>,
        preset: Option<String>,
        coefficients: Option<BTreeMap<String, f64>>,
    ) -> PolicyArgs {
        PolicyArgs {
            file,
            preset,
            coefficients,
            ranking: None,
            allow_clear: Vec::new(),
        }
    }

    /// Has a ranking file say which weights come first.
    pub fn ranked(self, ranking: Option<PathBuf>) -> PolicyArgs {
        PolicyArgs { ranking, ..self }
    }

    /// Accepts that what these globs name stays in clear.
    pub fn allowing(self, allow_clear: Option<Vec<String>>) -> PolicyArgs {
        PolicyArgs {
            allow_clear: allow_clear.unwrap_or_default(),
            ..self
        }
    }

    /// Makes the policy: that of the preset `full` if the arguments ask for none.
    pub fn read_or_full(self) -> Result<Policy> {
        Ok(self.choice()?.or_full()?)
    }

    /// Makes the policy, if the arguments ask for one.
    pub fn read(self) -> Result<Option<Policy>> {
        Ok(self.choice()?.policy()?)
    }

    fn choice(self) -> Result<PolicyChoice> {
        let named = match (&self.file, self.preset) {
            (Some(_), Some(_)) => return Err(usage("give either a policy or a preset")),
            (Some(path), None) => Some(policy_in(path)?.0),
            (None, Some(name)) => Some(Policy::preset(name.parse().map_err(Error::Policy)?)),
            (None, None) => None,
        };
        Ok(PolicyChoice {
            named,
            ranking: self.ranking.as_deref().map(ranking_in).transpose()?,
            coefficients: self.coefficients.into_iter().flatten().collect(),
            allow_clear: self.allow_clear,
            allow_unmatched: false,
        })
    }
}

/// Reads a policy file, and gives its text too.
pub fn policy_in(path: &Path) -> Result<(Policy, String)> {
    let (file, name) = open_named(path, "policy")?;
    Ok(core::read_policy(file, &name)?)
}

/// Reads a ranking file.
pub fn ranking_in(path: &Path) -> Result<Ranking> {
    let (file, name) = open_named(path, "ranking")?;
    Ok(core::read_ranking(file, &name)?)
}

/// Options for outputs. `sync` is `None` for what the command does without `--sync` and
/// `--no-sync`.
pub fn output_options(replace: bool, sync: Option<bool>) -> OutputOptions {
    let mut options = OutputOptions::default();
    options.replace = replace;
    options.flush = match sync {
        None => Flush::Replacing,
        Some(true) => Flush::ToDisk,
        Some(false) => Flush::Later,
    };
    options
}

/// What `--json` prints, as a Python dictionary that prints itself in a few lines.
pub fn as_dict<'py>(py: Python<'py>, report: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(report).map_err(not_json)?;
    let found = py.import("json")?.call_method1("loads", (text,))?;
    py.import("onnxseal._report")?
        .call_method1("Report", (found,))
}
