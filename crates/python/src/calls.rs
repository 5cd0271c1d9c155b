//! The calls on files: what the command line has as subcommands. `_calls.py` makes them public.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onnxseal_core::{
    self as core, Checks, Licence, Policy, ProtectOptions, Publication, Requirements, Resign,
    RotateOptions, TierRecipients,
};
use pyo3::prelude::*;
use serde::Serialize;

use crate::call;
use crate::errors::{Result, not_json, usage};
use crate::keys::{
    AudienceArgs, IdentityArgs, edition, licence, opening, read_identities, signed_by, signing_key,
};
use crate::keywords::{Keywords, Later};
use crate::marks::marked;
use crate::output::{Out, OutputArg, destination, finish, output_options};
use crate::policy::policy;
use crate::source::Source;

#[pyfunction(name = "_protect")]
pub fn protect<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let in_place: bool = keywords.get("in_place")?;
    if keywords.get::<Option<OutputArg>>("out")?.is_some() == in_place {
        return Err(usage("give either the output, or in_place=True"));
    }
    let model = marked(&keywords, keywords.model()?)?;
    let protecting = protecting(&keywords)?;
    let (out, destination) = destination(&keywords)?;
    let report = keywords.run(move |progress| {
        let (recipients, options) = protecting(progress)?;
        let model = model(progress)?;
        let made = core::protect(model, destination, &recipients, &options, progress);
        Ok(made?)
    });
    as_dict(keywords.py(), &finish(out, keywords.py(), report)?)
}

/// Takes the arguments that say how to protect.
pub fn protecting(keywords: &Keywords<'_>) -> Result<Later<(TierRecipients, ProtectOptions)>> {
    let recipients: AudienceArgs = keywords.read("recipients")?;
    let comment: Option<String> = keywords.get("comment")?;
    let is_listed: bool = keywords.get("list_recipients")?;
    let (policy, signing_key) = (policy(keywords)?, signing_key(keywords)?);
    let runnable: bool = keywords.get("runnable")?;
    let mut options = ProtectOptions::new(Policy::default());
    options.repack = keywords.get("repack")?;
    options.external_data = keywords.get("external_data")?;
    options.claims = claims(keywords)?;
    Ok(Box::new(move |progress| {
        options.policy = policy(progress)?.or_full()?;
        if runnable {
            options.policy.set_lock(false);
        }
        options.signing_key = signing_key(progress)?;
        let recipients = recipients.read_with(comment.as_deref(), is_listed)?;
        Ok((recipients, options))
    }))
}

fn claims(keywords: &Keywords<'_>) -> Result<BTreeMap<String, String>> {
    let claims: Option<BTreeMap<String, String>> = keywords.get("claims")?;
    Ok(claims.unwrap_or_default())
}

#[pyfunction(name = "_plan")]
pub fn plan<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let (model, policy) = (keywords.model()?, policy(&keywords)?);
    let report =
        keywords.run(move |progress| Ok(core::plan(model, &policy(progress)?.or_full()?)?))?;
    as_dict(keywords.py(), &report)
}

/// Whether a model's metadata says that it is protected. Only a key can tell whether it opens.
#[pyfunction]
pub fn is_protected(py: Python<'_>, model: Source) -> Result<bool> {
    let model = model.location()?;
    call::run(py, None, move |_| Ok(core::is_protected(model)?))
}

/// Whether a file, which need not be a model, has any part of what protection adds.
#[pyfunction]
#[pyo3(name = "_is_marked")]
pub fn is_marked(py: Python<'_>, model: Source) -> Result<bool> {
    let model = model.location()?;
    call::run(py, None, move |_| Ok(core::is_marked(model)?))
}

/// Tells what is encrypted in a protected model. Needs no key, and so cannot tell whether the
/// answer is authentic.
#[pyfunction]
pub fn inspect(py: Python<'_>, model: Source) -> Result<Bound<'_, PyAny>> {
    let model = model.location()?;
    let report = call::run(py, None, move |_| Ok(core::inspect(model)?))?;
    as_dict(py, &report)
}

#[pyfunction(name = "_verify")]
pub fn verify<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let (model, checking) = (keywords.model()?, checking(&keywords)?);
    let verified = keywords.run(move |progress| {
        let demands = checking(progress)?;
        Ok(core::verify(model, &demands.checks()?, progress)?)
    })?;
    as_dict(keywords.py(), &verified)
}

/// The demands of a check on a model.
pub struct Demands {
    identities: Option<core::Identities>,
    signed_by: Option<core::SignedBy>,
    tier: Option<String>,
    licence: Option<Licence>,
    has_licence: bool,
    require: Option<Requirements>,
    pub policy: Option<Policy>,
}

impl Demands {
    /// Fails if a tier or a licence is named, and there are no identities to open it.
    pub fn checks(&self) -> Result<Checks<'_>> {
        if (self.tier.is_some() || self.has_licence) && self.identities.is_none() {
            return Err(usage(
                "only an identity shows which tier it opens, or opens a licence: give one with identity=...",
            ));
        }
        Ok(Checks {
            identities: self.identities.as_ref(),
            signed_by: self.signed_by.as_ref(),
            edition: edition(self.tier.as_deref()),
            licence: self.licence.as_ref(),
            require: self.require.as_ref(),
            policy: self.policy.as_ref(),
            ..Checks::default()
        })
    }
}

/// Takes the arguments that say what to check.
pub fn checking(keywords: &Keywords<'_>) -> Result<Later<Demands>> {
    let identity: Option<IdentityArgs> = keywords.read("identity")?;
    let (signed_by, policy) = (signed_by(keywords)?, policy(keywords)?);
    let licence = licence(keywords)?;
    let has_licence = keywords.get::<Option<PathBuf>>("licence")?.is_some();
    let tier = keywords.get("tier")?;
    let claims: Option<Vec<String>> = keywords.get("require_claims")?;
    let require = claims
        .map(|claims| Requirements::parse(&claims))
        .transpose()?;
    Ok(Box::new(move |progress| {
        let identities = read_identities(identity, progress)?;
        Ok(Demands {
            has_licence,
            // Without an identity, one that the environment names is for other calls.
            licence: match identities.is_some() || has_licence {
                true => licence(progress)?,
                false => None,
            },
            identities,
            signed_by: signed_by(progress)?,
            tier,
            require,
            policy: policy(progress)?.policy()?,
        })
    }))
}

#[pyfunction(name = "_unprotect")]
pub fn unprotect(keywords: Keywords<'_>) -> Result<()> {
    let (model, opening) = (keywords.model()?, opening(&keywords)?);
    let out = Out::open(keywords.get("out")?, &keywords)?;
    let publication = Publication::new(out.location(), output_options(&keywords)?);
    let unprotected = keywords.run(move |progress| {
        let opened = opening(progress)?;
        core::unprotect(model, publication, opened.access(), progress)?;
        Ok(())
    });
    out.finish(keywords.py(), unprotected)
}

#[pyfunction(name = "_rekey")]
pub fn rekey<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let (model, opening) = (keywords.model()?, opening(&keywords)?);
    let recipients: AudienceArgs = keywords.read("recipients")?;
    let (out, destination) = destination(&keywords)?;
    let rekeyed = keywords.run(move |progress| {
        let (opened, recipients) = (opening(progress)?, recipients.read()?);
        let access = opened.access();
        Ok(core::rekey(
            model,
            destination,
            access,
            &recipients,
            progress,
        )?)
    });
    let still_opens = finish(out, keywords.py(), rekeyed)?;
    let report = BTreeMap::from([("still_opens", still_opens)]);
    as_dict(keywords.py(), &report)
}

#[pyfunction(name = "_rotate")]
pub fn rotate<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let model = keywords.model()?;
    let (opening, rotating) = (opening(&keywords)?, rotating(&keywords)?);
    let (out, destination) = destination(&keywords)?;
    let report = keywords.run(move |progress| {
        let (opened, (recipients, options)) = (opening(progress)?, rotating(progress)?);
        let access = opened.access();
        let made = core::rotate(model, destination, access, &recipients, &options, progress);
        Ok(made?)
    });
    as_dict(keywords.py(), &finish(out, keywords.py(), report)?)
}

/// Takes the arguments that say how to encrypt anew.
pub fn rotating(keywords: &Keywords<'_>) -> Result<Later<(TierRecipients, RotateOptions)>> {
    let recipients: AudienceArgs = keywords.read("recipients")?;
    let (policy, signing_key) = (policy(keywords)?, signing_key(keywords)?);
    let drop_signature: bool = keywords.get("drop_signature")?;
    let mut options = RotateOptions {
        lock: keywords.get::<bool>("runnable")?.then_some(false),
        claims: claims(keywords)?,
        external_data: keywords.get("external_data")?,
        ..RotateOptions::default()
    };
    Ok(Box::new(move |progress| {
        options.policy = policy(progress)?.policy()?;
        options.signature = match signing_key(progress)? {
            Some(key) => Resign::With(key),
            None if drop_signature => Resign::Drop,
            None => Resign::Refuse,
        };
        Ok((recipients.read()?, options))
    }))
}

/// What `--json` prints, as a Python dictionary that prints itself in a few lines.
pub fn as_dict<'py>(py: Python<'py>, report: &impl Serialize) -> Result<Bound<'py, PyAny>> {
    let text = serde_json::to_string(report).map_err(not_json)?;
    let found = py.import("json")?.call_method1("loads", (text,))?;
    let module = py.import("onnxseal._report")?;
    Ok(module.call_method1("Report", (found,))?)
}
