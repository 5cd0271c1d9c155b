//! `onnxseal plan`

use anyhow::Result;
use onnxseal_core::{self as core, Error, Location};

use crate::cli::Plan;
use crate::render;

pub fn run(args: &Plan) -> Result<()> {
    let report = core::plan(&args.model, &args.policy.or_full(false)?)?;
    let violations = report.violations.clone();
    render::report(report, &args.view)?;
    check(&args.model, violations)
}

/// Fails if the plan for `model` has violations of its policy.
pub fn check(model: &Location, violations: Vec<String>) -> Result<()> {
    if violations.is_empty() {
        return Ok(());
    }
    let path = model.to_string().into();
    Err(Error::PolicyNotMet { path, violations }.into())
}
