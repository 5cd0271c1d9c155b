//! Reads the authority's file, and replaces it whole.

use std::path::Path;

use anyhow::{Context as _, Result};
use onnxseal_core::{Replaced, There};
use onnxseal_labels::Authority;

use crate::cli::labels::AuthorityArgs;
use crate::exit::usage;

pub fn read(args: &AuthorityArgs) -> Result<Authority> {
    args.identities
        .open(&args.authority, "--authority", Authority::read)
}

/// Refuses a pipe and standard input, which can be read but not replaced.
pub fn check(path: &Path) -> Result<()> {
    let is_handed_over = || There::at(path).is_ok_and(|there| there == There::Stream);
    if path != Path::new("-") && !is_handed_over() {
        return Ok(());
    }
    Err(usage(format!(
        "{} is not a file, but the command must replace the authority: name its file",
        path.display()
    )))
}

/// Replaces the authority's file, whole or not at all.
pub fn replace(authority: &Authority, path: &Path) -> Result<Replaced> {
    check(path)?;
    let text = authority.to_file()?;
    let cannot_write = || format!("cannot write {}", path.display());
    Replaced::write(path, text.as_bytes()).with_context(cannot_write)
}
