//! `onnxseal completions`

use anyhow::Result;
use clap::CommandFactory;

use crate::cli::{Cli, Completions};
use crate::render;

/// Prints a completion script.
pub fn run(args: &Completions) -> Result<()> {
    // In memory first: the generator panics if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "onnxseal", &mut script);
    render::bytes(&script)
}
