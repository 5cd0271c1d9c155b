//! `onnxseal man`

use std::fs;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::{self, Cli};
use crate::render;

/// Prints the main manual page, or writes all pages into a folder.
pub fn run(args: &cli::Man) -> Result<()> {
    let Some(folder) = &args.output else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        return render::bytes(&page);
    };
    let context = || format!("cannot write manual pages to {}", folder.display());
    fs::create_dir_all(folder).with_context(context)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(context)
}
