//! `onnxseal labels targets`

use anyhow::{Context as _, Result};
use onnxseal_core::{Readers, write_whole};
use onnxseal_labels::decoding::Decoding;

use crate::cli::labels::Targets;
use crate::text::note;

/// Writes a decoding matrix for a training loop.
pub fn run(args: &Targets, quiet: bool) -> Result<()> {
    let decoding = Decoding::draw(args.classes, args.codewords)?;
    let cannot_write = || format!("cannot write {}", args.output.display());
    let bytes = decoding.to_npz().with_context(cannot_write)?;
    write_whole(&args.output, &bytes, args.force, Readers::Owner).with_context(cannot_write)?;
    if !quiet {
        note(&format!(
            "wrote {}: {} rows for {} classes; keep it secret, it reads the answers of the model",
            args.output.display(),
            decoding.rows.len(),
            decoding.classes
        ));
    }
    Ok(())
}
