//! `onnxseal sign`

use std::io::Write;

use anyhow::Result;
use onnxseal_core as core;

use crate::cli::Sign;
use crate::io;
use crate::progress::Bar;
use crate::signing::signing_key;
use crate::text::tell;

/// The longest signature file, in bytes.
const MAX_SIGNATURE_BYTES: usize = 1 << 20;

pub fn run(args: &Sign) -> Result<()> {
    let flush = args.sync.flush();
    let bar = Bar::new();
    let (key_type, fingerprint) = match (&args.key, &args.signature) {
        (Some(path), _) => {
            let key = signing_key(path)?;
            core::sign(&args.model, &key, flush, &bar)?;
            (key.key_type(), key.fingerprint())
        }
        (None, Some(path)) => {
            let armored = io::read_text(path, "--signature", MAX_SIGNATURE_BYTES)?;
            let signer = core::attach_signature(&args.model, &armored, flush, &bar)?;
            (signer.key_type, signer.fingerprint)
        }
        (None, None) => {
            let message = core::signed_message(&args.model, &bar)?;
            drop(bar);
            return Ok(std::io::stdout().write_all(message.as_bytes())?);
        }
    };
    drop(bar);
    let model = &args.model;
    tell(&format!(
        "{model}: signed with {key_type} key {fingerprint}"
    ));
    Ok(())
}
