//! `onnxseal rotate`

use anyhow::Result;
use onnxseal_core::{self as core, Destination, RotateOptions};

use crate::cli::Rotate;
use crate::progress::Bar;
use crate::render;
use crate::text::{few, note};

pub fn run(args: &Rotate, quiet: bool) -> Result<()> {
    let opening = args.opening.require(quiet)?;
    let recipients = args.rotating.recipients.require(quiet)?;
    let options = RotateOptions {
        external_data: args.external_data.clone(),
        ..args.rotating.read(false)?
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
        opening.access(),
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
