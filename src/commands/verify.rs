//! `onnxseal verify`

use anyhow::Result;
use onnxseal_core::{self as core, Checks};

use crate::cli::Verify;
use crate::progress::Bar;
use crate::{io, render};

/// Checks a protected model as far as what is at hand allows.
pub fn run(args: &Verify, quiet: bool) -> Result<()> {
    let policy = io::named_policy(args.policy.as_deref(), args.preset)?;
    let identities = args.identities.read(quiet)?;
    let signed_by = args.signer.read()?;
    let checks = Checks {
        identities: identities.as_ref(),
        policy: policy.as_ref(),
        signed_by: signed_by.as_ref(),
    };
    let bar = Bar::new(quiet);
    let verified = core::verify(&args.model, &checks, &bar)?;
    drop(bar);
    match (args.json, quiet) {
        (true, _) => render::json(&verified),
        (false, true) => Ok(()),
        (false, false) => render::verified(&args.model, &verified),
    }
}
