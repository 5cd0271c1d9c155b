//! `onnxseal verify`

use std::io::{self, Write};

use anyhow::{Context, Result};
use onnxseal_core::{
    self as core, Checks, Demand, Edition, Error, ErrorKind, Identities, Location, Policy,
    Requirements, SignedBy,
};

use crate::checks::{self, Check, Outcome};
use crate::cli::{Format, Verify};
use crate::exit::{Failures, Usage, kind_code};
use crate::progress::Bar;
use crate::text::{note, one_line};
use crate::{io as files, render, sarif};

/// Checks protected models as far as the given keys and policies allow.
pub fn run(args: &Verify, quiet: bool) -> Result<()> {
    let single = single(args)?;
    let mut policy = files::least_policy(&args.policy)?;
    let all_match =
        (policy.as_ref()).is_some_and(|policy| policy.require().unmatched == Demand::Error);
    if single.is_none() {
        policy = policy.map(files::for_many);
    }
    let (identities, signed_by) = args.opening.read(quiet)?;
    let edition = args.tier.edition_for(identities.as_ref())?;
    let require = args.claims.read()?;
    // An unprotected model meets no demand.
    let demands =
        identities.is_some() || signed_by.is_some() || policy.is_some() || require.is_some();
    let verifier = Verifier {
        identities,
        signed_by,
        edition,
        require,
        policy,
        all_match,
        require_protected: args.require_protected || demands,
        quiet,
    };
    match single {
        Some(model) => verifier.one(model, args.format()),
        None => verifier.several(args),
    }
}

/// Returns the only model that the command line names, unless the request concerns several.
fn single(args: &Verify) -> Result<Option<&Location>> {
    let [source] = args.sources.as_slice() else {
        return Ok(None);
    };
    let about_several =
        args.require_protected || !args.lists.is_empty() || args.format() == Format::Sarif;
    if about_several {
        return Ok(None);
    }
    let is_one = match source {
        // A missing path may be a glob.
        Location::File(path) => path.exists() && !path.is_dir(),
        object => !object.is_folder()?,
    };
    Ok(is_one.then_some(source))
}

struct Verifier<'a> {
    identities: Option<Identities>,
    signed_by: Option<SignedBy>,
    edition: Edition<'a>,
    require: Option<Requirements>,
    policy: Option<Policy>,
    /// Whether each entry of the policy must match something in some model.
    all_match: bool,
    require_protected: bool,
    quiet: bool,
}

impl Verifier<'_> {
    fn verify(&self, model: impl Into<Location>) -> core::Result<core::Verification> {
        let checks = Checks {
            identities: self.identities.as_ref(),
            signed_by: self.signed_by.as_ref(),
            edition: self.edition,
            require: self.require.as_ref(),
            policy: self.policy.as_ref(),
            ..Checks::default()
        };
        core::verify(model, &checks, &Bar::new(self.quiet))
    }

    /// Checks `model`, and fails with its error.
    fn one(&self, model: &Location, format: Format) -> Result<()> {
        let verified = self.verify(model.clone())?;
        match (format, self.quiet) {
            (Format::Json | Format::Sarif, _) => render::json(&verified),
            (Format::Human, true) => Ok(()),
            (Format::Human, false) => render::verified(model, &verified),
        }
    }

    /// Checks every model, and fails with the worst error.
    fn several(&self, args: &Verify) -> Result<()> {
        let found = onnxseal_batch::discover(&args.sources, &args.lists)?;
        if let Some(text) = checks::passed_over(&found).filter(|_| !self.quiet) {
            note(&format!("note: {}", one_line(&text)));
        }
        if found.models.is_empty() && found.unreadable.is_empty() {
            let lists = args.lists.iter().map(|path| path.display().to_string());
            let sources = args.sources.iter().map(Location::to_string);
            let mut names = sources.chain(lists);
            let first = names.next();
            let more = if names.next().is_some() { ", ..." } else { "" };
            return Err(Usage(format!(
                "no ONNX model in {}{more}: nothing was checked",
                first.unwrap_or_default()
            ))
            .into());
        }
        let format = args.format();
        // Checks go on even if the reader of the output stops.
        let mut printed = Ok(());
        let mut checks = Vec::with_capacity(found.models.len());
        let mut rows: Vec<(Location, Option<onnxseal_batch::Error>)> = Vec::new();
        rows.extend((found.models.into_iter()).map(|model| (model.location, None)));
        let unreadable = found.unreadable.into_iter();
        rows.extend(unreadable.map(|row| (row.found.location, Some(row.error))));
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (model, error) in rows {
            let outcome = match error {
                Some(error) => Outcome::Failed(error),
                None => self.outcome(&model),
            };
            let check = Check { model, outcome };
            match (format, self.quiet) {
                (Format::Human, false) => {
                    let line = || writeln!(io::stdout(), "{}", check.line());
                    printed = printed.and_then(|()| line());
                }
                _ if check.failure().is_some() => note(&check.line()),
                _ => {}
            }
            checks.push(check);
        }
        let printed = printed
            .map_err(anyhow::Error::from)
            .and_then(|()| match format {
                Format::Human if self.quiet => Ok(()),
                Format::Human => Ok(checks::summary(&mut io::stdout(), &checks)?),
                Format::Json => render::json(&checks::json(&checks)),
                Format::Sarif => {
                    let folder =
                        std::env::current_dir().context("cannot tell the current folder")?;
                    render::json(&sarif::log(&checks, &folder))
                }
            });
        // With several models, each may match another part of the policy.
        let unmatched = if self.all_match {
            checks::unmatched(&checks)
        } else {
            Vec::new()
        };
        for entry in &unmatched {
            note(&format!(
                "error: {entry} matches nothing in any of the models"
            ));
        }
        let unmatched_code = (!unmatched.is_empty()).then(|| kind_code(ErrorKind::PolicyNotMet));
        match checks::exit_code(&checks) {
            Some(code) => {
                let checks::Summary { models, failed, .. } = checks::Summary::of(&checks);
                let text = format!("{failed} of {models} models failed");
                Err(Failures { code, text }.into())
            }
            None => match unmatched_code {
                Some(code) => {
                    let text = "entries of the policy match nothing: correct them, or give --allow-unmatched";
                    let text = text.to_owned();
                    Err(Failures { code, text }.into())
                }
                None => printed,
            },
        }
    }

    fn outcome(&self, model: &Location) -> Outcome {
        match self.verify(model) {
            Ok(verified) => Outcome::Ok(verified),
            // Do not report an unreadable file as an unprotected model.
            Err(Error::NotProtected { .. }) => match core::plan(model, &Policy::default()) {
                Err(error) if error.kind() == ErrorKind::Malformed => Outcome::Failed(error.into()),
                _ => Outcome::NotProtected {
                    required: self.require_protected,
                    obstacle: None,
                },
            },
            Err(ref error @ Error::Unprotectable { kind, .. }) => Outcome::NotProtected {
                required: self.require_protected,
                obstacle: Some(match error.advice() {
                    Some(advice) => format!("it is {}; {advice}", kind.what),
                    None => format!("it is {}", kind.what),
                }),
            },
            Err(error) => Outcome::Failed(error.into()),
        }
    }
}
