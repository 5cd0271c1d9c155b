//! `onnxseal rekey`

use anyhow::Result;
use onnxseal_core::{self as core, Destination, Rewrap};

use crate::cli::Rekey;
use crate::progress::Bar;
use crate::text::tell;

pub fn run(args: &Rekey) -> Result<()> {
    let opening = args.opening.require()?;
    let recipients = args.recipients.require()?;
    let rewrap = if args.add {
        Rewrap::Also((&recipients).into())
    } else {
        Rewrap::Only((&recipients).into())
    };
    let output = args.output.as_ref();
    let output = output
        .map(|output| output.for_output_of(&args.model))
        .transpose()?;
    let bar = Bar::new();
    let destination = Destination::new(output.as_ref(), args.output_options.core());
    let still_opens = core::rekey(&args.model, destination, opening.access(), rewrap, &bar)?;
    drop(bar);
    let model = output.as_ref().unwrap_or(&args.model);
    let to = if args.add {
        "the present recipients and the new ones"
    } else {
        "the new recipients, to nobody else"
    };
    let tiers = recipients.iter().filter_map(|(tier, _)| tier.as_deref());
    let tiers: Vec<&str> = tiers.collect();
    if tiers.is_empty() {
        tell(&format!("{model}: its data key is wrapped to {to}"));
    } else {
        tell(&format!(
            "{model}: the keys of these tiers are wrapped to {to}: {}; other tiers stay as they are",
            tiers.join(", ")
        ));
    }
    if !still_opens {
        tell("note: the identities given here no longer open it");
    }
    Ok(())
}
