//! The authority's file: read, and replaced whole.

use std::path::Path;

use anyhow::{Context as _, Result};
use onnxseal_core::{Readers, write_whole};
use onnxseal_labels::Authority;

use crate::cli::labels::AuthorityArgs;
use crate::keys::label_authority;

/// Reads it.
pub fn read(args: &AuthorityArgs, quiet: bool) -> Result<Authority> {
    label_authority(&args.authority, "--authority", &args.identities, quiet)
}

/// Replaces it: whole, or not at all.
pub fn replace(authority: &Authority, path: &Path) -> Result<()> {
    let text = authority.to_file()?;
    write_whole(path, text.as_bytes(), true, Readers::Owner)
        .with_context(|| format!("cannot write {}", path.display()))
}
