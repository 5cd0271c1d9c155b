//! `onnxseal keygen`

use std::io::Write;

use anyhow::Result;
use onnxseal_core::{
    Error, generate_identity, generate_pq_identity, is_standard_output, write_key,
};

use crate::cli::Keygen;
use crate::exit::usage;
use crate::keys::{PassphraseSource as _, identities_of};
use crate::text::tell;

/// Writes a new identity, encrypted if there is a passphrase, and prints its recipient. Or prints
/// the recipients of an identity file.
pub fn run(args: &Keygen) -> Result<()> {
    if let Some(path) = &args.recipients_of {
        let recipients = identities_of(path, "--recipients-of")?.recipients();
        if recipients.is_empty() {
            return Err(usage(format!(
                "{}: the recipients of plugins stand in their own files",
                path.display()
            )));
        }
        let mut stdout = std::io::stdout().lock();
        for recipient in recipients {
            writeln!(stdout, "{recipient}")?;
        }
        return Ok(());
    }
    let passphrase = args.passphrase.read_new()?;
    let mut identity = if args.pq {
        generate_pq_identity().map_err(Error::Key)?
    } else {
        generate_identity()
    };
    if let Some(comment) = &args.comment {
        identity = identity.with_comment(comment).map_err(Error::Key)?;
    }
    let text = match &passphrase {
        Some(passphrase) => identity
            .to_encrypted_file_text(passphrase)
            .map_err(Error::Key)?
            .into(),
        None => identity.to_file_text(),
    };
    let mut stdout = std::io::stdout().lock();
    // Standard output gets only the text of the identity.
    let file = args.output.as_deref();
    match file.filter(|path| !is_standard_output(path)) {
        Some(path) => {
            write_key(path, &text)?;
            writeln!(stdout, "{}", identity.recipient())?;
        }
        None => {
            stdout.write_all(text.as_bytes())?;
            // Without a passphrase, the text contains the recipient.
            if passphrase.is_some() {
                tell(&format!("public key: {}", identity.recipient()));
            }
        }
    }
    Ok(())
}
