//! `onnxseal keygen`

use std::io::Write;

use anyhow::Result;
use onnxseal_core::generate_identity;

use crate::cli::Keygen;
use crate::io;

/// Writes a new identity and prints its recipient.
pub fn run(args: &Keygen) -> Result<()> {
    let identity = generate_identity();
    let mut stdout = std::io::stdout().lock();
    match &args.output {
        Some(path) => {
            io::write_identity(&identity, path)?;
            writeln!(stdout, "{}", identity.recipient())?;
        }
        None => stdout.write_all(identity.to_file_text().as_bytes())?,
    }
    Ok(())
}
