//! `onnxseal labels targets`

use anyhow::{Context as _, Result};
use onnxseal_labels::decoding::Decoding;

use crate::cli::labels::Targets;
use crate::io::Written;
use crate::text::note;

/// Writes a decoding matrix for a training loop.
pub fn run(args: &Targets, quiet: bool) -> Result<()> {
    let written = Written::new(&args.output, "decoding matrix", args.force);
    written.check()?;
    let decoding = Decoding::draw(args.classes, args.codewords)?;
    let bytes = decoding
        .to_npz()
        .context("cannot make the decoding matrix")?;
    written.write_secret(&bytes)?;
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
