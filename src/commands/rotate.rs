//! `onnxseal rotate`

use anyhow::Result;
use onnxseal_core::{self as core, Destination, RotateOptions};

use crate::cli::Rotate;
use crate::progress::Bar;
use crate::signing::access;
use crate::text::{few, note};
use crate::{io, render};

/// Encrypts a model under a new data key, to a new file or in place.
pub fn run(args: &Rotate, quiet: bool) -> Result<()> {
    let identities = args.identities.require(quiet)?;
    let recipients = args.recipients.require(quiet)?;
    let signed_by = args.signer.read()?;
    let access = access(&identities, signed_by.as_ref());
    let options = RotateOptions {
        policy: io::chosen_policy(&args.policy)?,
        lock: args.policy.lock(),
        claims: io::claims(&args.claims)?,
        signature: args.signing.read()?,
        external_data: args.external_data.clone(),
    };
    let output = args.output.as_ref();
    let output = output
        .map(|output| output.for_output_of(&args.model))
        .transpose()?;
    let bar = Bar::new(quiet);
    let destination = Destination::new(output, args.output_options.core());
    let report = core::rotate(
        &args.model,
        destination,
        access,
        &recipients,
        &options,
        &bar,
    )?;
    drop(bar);
    if !quiet && !report.left_files.is_empty() {
        note(&format!(
            "the old external data is still beside the model: {}\n\
             delete it once no program reads it and no other model needs it",
            few(&report.left_files)
        ));
    }
    render::report(report, &args.view, quiet)
}
