//! `onnxseal inspect`

use anyhow::Result;
use onnxseal_core as core;

use crate::cli::Inspect;
use crate::render;

pub fn run(args: &Inspect) -> Result<()> {
    render::report(core::inspect(&args.model)?, &args.view)
}
