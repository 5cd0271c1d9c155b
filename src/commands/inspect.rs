//! `onnxseal inspect`

use anyhow::Result;
use onnxseal_core as core;

use crate::cli::Inspect;
use crate::render;

/// Shows from the metadata what is encrypted.
pub fn run(args: &Inspect, quiet: bool) -> Result<()> {
    render::report(core::inspect(&args.model)?, &args.view, quiet)
}
