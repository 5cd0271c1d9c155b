//! `onnxseal labels targets`

use anyhow::{Context as _, Result};
use onnxseal_core::Readers;
use onnxseal_labels::DEFAULT_CODEWORDS;
use onnxseal_labels::decoding::Decoding;

use crate::cli::labels::Targets;
use crate::io::Written;
use crate::text::tell;

pub fn run(args: &Targets) -> Result<()> {
    let written = Written::new(&args.output, "decoding matrix", args.force);
    written.check()?;
    let decoding = Decoding::draw(args.classes, DEFAULT_CODEWORDS)?;
    let bytes = decoding
        .to_npz()
        .context("cannot make the decoding matrix")?;
    written.write(&bytes, Readers::Owner)?;
    tell(&format!(
        "wrote {}: {} rows for {} classes; keep it secret, it reads the answers of the model",
        args.output.display(),
        decoding.rows.len(),
        decoding.classes
    ));
    Ok(())
}
