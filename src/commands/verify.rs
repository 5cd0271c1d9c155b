//! `onnxseal verify`

use std::io::{self, Write};

use anyhow::{Context, Result};
use onnxseal_core::{self as core, Demand, Error, ErrorKind, Location, Policy};

use crate::checks::{self, Check, Outcome, Summary};
use crate::cli::{Demands, Verify};
use crate::exit::{self, not_met, usage};
use crate::progress::Bar;
use crate::text::{is_quiet, note, one_line, tell};
use crate::{render, sarif};

pub fn run(args: &Verify) -> Result<()> {
    let single = single(args)?;
    let mut demands = args.verifying.read(false)?;
    if let Some(model) = single {
        let verified = core::verify(model, &demands.checks(), &Bar::new())?;
        return match (args.json, is_quiet()) {
            (true, _) => render::json(&verified),
            (false, true) => Ok(()),
            (false, false) => render::verified(model, &verified),
        };
    }
    // Each of several models may match another part of the policy.
    let all_match =
        (demands.policy.as_ref()).is_some_and(|of| of.require().unmatched == Demand::Error);
    if let Some(policy) = &mut demands.policy {
        policy.allow_unmatched();
    }
    let checks = models(args)?.into_iter().map(|(model, error)| {
        let outcome = match error {
            Some(error) => Outcome::Failed(error),
            None => outcome(args, &demands, &model),
        };
        Check { model, outcome }
    });
    several(args, all_match, checks)
}

/// Returns the only model that the command line names, unless the request concerns several.
fn single(args: &Verify) -> Result<Option<&Location>> {
    let [source] = args.sources.sources.as_slice() else {
        return Ok(None);
    };
    if args.require_protected || !args.sources.lists.is_empty() || args.sarif {
        return Ok(None);
    }
    let is_one = match source {
        // A missing path may be a glob.
        Location::File(path) => path.exists() && !path.is_dir(),
        object => !object.is_folder()?,
    };
    Ok(is_one.then_some(source))
}

/// Makes all `checks`, and fails with the worst error. If `all_match`, each entry of the policy must
/// match something in some model.
fn several(args: &Verify, all_match: bool, checks: impl Iterator<Item = Check>) -> Result<()> {
    let prints_lines = !(args.json || args.sarif || is_quiet());
    // Checks go on even if the reader of the output stops.
    let mut printed = Ok(());
    let checks = checks.inspect(|check| {
        if prints_lines && printed.is_ok() {
            printed = writeln!(io::stdout(), "{}", check.line());
        } else if !prints_lines && check.failure().is_some() {
            note(&check.line());
        }
    });
    let checks: Vec<Check> = checks.collect();
    let printed = printed.map_err(Into::into).and_then(|()| {
        if args.json {
            render::json(&checks::json(&checks))
        } else if args.sarif {
            let folder = std::env::current_dir().context("cannot tell the current folder")?;
            render::json(&sarif::log(&checks, &folder))
        } else if is_quiet() {
            Ok(())
        } else {
            Ok(checks::summary(&mut io::stdout(), &checks)?)
        }
    });
    let unmatched = match all_match {
        true => checks::unmatched(&checks),
        false => Vec::new(),
    };
    for entry in &unmatched {
        note(&format!(
            "error: {entry} matches nothing in any of the models"
        ));
    }
    match (checks::exit_code(&checks), unmatched.is_empty()) {
        (Some(code), _) => {
            let Summary { models, failed, .. } = Summary::of(&checks);
            let text = format!("{failed} of {models} models failed");
            Err(exit::failed(code, text))
        }
        (None, false) => Err(not_met(
            "entries of the policy match nothing: correct them, or give --allow-unmatched",
        )),
        (None, true) => printed,
    }
}

/// Returns the models that the command line names, in order, with the errors of those that cannot
/// be looked at.
fn models(args: &Verify) -> Result<Vec<(Location, Option<onnxseal_batch::Error>)>> {
    let sources = &args.sources;
    let found = onnxseal_batch::discover(&sources.sources, &sources.lists)?;
    if let Some(text) = checks::passed_over(&found) {
        tell(&format!("note: {}", one_line(&text)));
    }
    let models = found.models.into_iter().map(|model| (model.location, None));
    let unreadable = found.unreadable.into_iter();
    let unreadable = unreadable.map(|row| (row.found.location, Some(row.error)));
    let mut rows: Vec<_> = models.chain(unreadable).collect();
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    if rows.is_empty() {
        let lists = sources.lists.iter().map(|path| path.display().to_string());
        let mut names = sources.sources.iter().map(Location::to_string).chain(lists);
        let first = names.next().unwrap_or_default();
        let more = if names.next().is_some() { ", ..." } else { "" };
        return Err(usage(format!(
            "no ONNX model in {first}{more}: nothing was checked"
        )));
    }
    Ok(rows)
}

fn outcome(args: &Verify, demands: &Demands<'_>, model: &Location) -> Outcome {
    // An unprotected model meets no demand.
    let required = args.require_protected
        || demands.identities.is_some()
        || demands.signed_by.is_some()
        || demands.policy.is_some()
        || demands.require.is_some();
    match core::verify(model, &demands.checks(), &Bar::new()) {
        Ok(verified) => Outcome::Ok(verified),
        // Do not report an unreadable file as an unprotected model.
        Err(Error::NotProtected { .. }) => match core::plan(model, &Policy::default()) {
            Err(error) if error.kind() == ErrorKind::Malformed => Outcome::Failed(error.into()),
            _ => Outcome::NotProtected {
                required,
                obstacle: None,
            },
        },
        Err(ref error @ Error::Unprotectable { kind, .. }) => Outcome::NotProtected {
            required,
            obstacle: Some(match error.advice() {
                Some(advice) => format!("it is {}; {advice}", kind.what),
                None => format!("it is {}", kind.what),
            }),
        },
        Err(error) => Outcome::Failed(error.into()),
    }
}
