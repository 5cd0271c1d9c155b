//! `onnxseal plan`

use anyhow::Result;
use onnxseal_core::{self as core, Error};

use crate::cli::Plan;
use crate::render;

pub fn run(args: &Plan) -> Result<()> {
    let report = core::plan(&args.model, &args.policy.or_full(false)?)?;
    let violations = report.violations.clone();
    render::report(report, &args.view)?;
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Error::PolicyNotMet {
            path: args.model.to_string().into(),
            violations,
        }
        .into())
    }
}
