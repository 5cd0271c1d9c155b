//! `onnxseal rotate`

use anyhow::Result;
use onnxseal_core::{self as core, Destination, RotateOptions};

use crate::cli::Rotate;
use crate::progress::Bar;
use crate::render;
use crate::text::{few, tell};

pub fn run(args: &Rotate) -> Result<()> {
    let opening = args.opening.require()?;
    let recipients = args.rotating.recipients.require()?;
    let options = RotateOptions {
        external_data: args.external_data.clone(),
        ..args.rotating.read(false)?
    };
    let output = args.output.as_ref();
    let output = output
        .map(|output| output.for_output_of(&args.model))
        .transpose()?;
    let bar = Bar::new();
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
    if !report.left_files.is_empty() {
        tell(&format!(
            "the old external data is still beside the model: {}\n\
             delete it once no program reads it and no other model needs it",
            few(&report.left_files)
        ));
    }
    render::report(report, &args.view)
}
