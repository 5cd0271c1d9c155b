//! `onnxseal man`

use std::fs;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

use crate::cli::{self, Cli};
use crate::io::Written;
use crate::render;

/// Prints the main manual page, or writes all pages into a folder.
pub fn run(args: &cli::Man) -> Result<()> {
    let Some(folder) = &args.output else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        return render::bytes(&page);
    };
    // In a temporary folder first: the generator overwrites files, even through links.
    let made = tempfile::tempdir().context("cannot make manual pages")?;
    clap_mangen::generate_to(Cli::command(), &made).context("cannot make manual pages")?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(&made).context("cannot make manual pages")? {
        let entry = entry.context("cannot make manual pages")?;
        pages.push((entry.path(), folder.join(entry.file_name())));
    }
    let written = |path| Written {
        path,
        what: "manual page",
        force: args.force,
        is_earlier: Some(is_page),
    };
    for (_, path) in &pages {
        written(path).check()?;
    }
    for (from, path) in &pages {
        let page = fs::read(from).context("cannot make manual pages")?;
        written(path).write(&page)?;
    }
    Ok(())
}

/// Returns whether a file that begins with `start` is a manual page of this command.
fn is_page(start: &[u8]) -> bool {
    let title = b".TH onnxseal";
    start.windows(title.len()).any(|window| window == title)
}
