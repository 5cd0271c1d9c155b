//! The authority's file: read, and replaced whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onnxseal_core::{Readers, There, write_whole};
use onnxseal_labels::Authority;
use zeroize::Zeroizing;

use crate::cli::labels::AuthorityArgs;
use crate::exit::Usage;
use crate::keys::label_authority;

/// Reads it.
pub fn read(args: &AuthorityArgs, quiet: bool) -> Result<Authority> {
    label_authority(&args.authority, "--authority", &args.identities, quiet)
}

/// An authority's file that was replaced. Dropped, it is what it was before, unless it is kept: a
/// command that fails changes nothing.
pub struct Replaced {
    /// Where the file itself lies.
    path: PathBuf,
    old: Zeroizing<Vec<u8>>,
    new: Zeroizing<Vec<u8>>,
    kept: bool,
}

impl Replaced {
    /// What was written stays.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // Another command may have noted something meanwhile.
        let is_ours = || fs::read(&self.path).is_ok_and(|text| text == *self.new);
        if !self.kept && is_ours() {
            let _ = write_whole(&self.path, &self.old, true, Readers::Owner);
        }
    }
}

/// Fails where it can be read and not written again: a pipe, or standard input.
pub fn check(path: &Path) -> Result<()> {
    let is_handed_over = || There::at(path).is_ok_and(|there| there == There::Stream);
    if path != Path::new("-") && !is_handed_over() {
        return Ok(());
    }
    let text = format!(
        "{} is no file, and the command writes the authority again: name its file",
        path.display()
    );
    Err(Usage(text).into())
}

/// Replaces it: whole, or not at all. A link to it stays a link.
pub fn replace(authority: &Authority, path: &Path) -> Result<Replaced> {
    check(path)?;
    let cannot_write = || format!("cannot write {}", path.display());
    let there = path.canonicalize().with_context(cannot_write)?;
    let old = fs::read(&there).with_context(cannot_write)?.into();
    let new = Zeroizing::new(authority.to_file()?.as_bytes().to_vec());
    write_whole(&there, &new, true, Readers::Owner).with_context(cannot_write)?;
    Ok(Replaced {
        path: there,
        old,
        new,
        kept: false,
    })
}
