//! `onnxseal unprotect`

use std::io::Write;

use anyhow::Result;
use onnxseal_core::{self as core, Publication};

use crate::cli::Unprotect;
use crate::progress::Bar;
use crate::text::{is_quiet, one_line};

pub fn run(args: &Unprotect) -> Result<()> {
    let opening = args.opening.require_for(&args.reader)?;
    let output = args.output.for_output_of(&args.model)?;
    let bar = Bar::new();
    let publication = Publication::new(&output, args.output_options.core());
    let access = opening.access_to(&args.reader);
    let restored = core::unprotect(&args.model, publication, access, &bar)?;
    drop(bar);
    if !is_quiet() {
        let output = one_line(&output.to_string());
        let out = std::io::stdout();
        match restored.tier.filter(|_| !restored.is_original) {
            None => writeln!(&out, "restored {output}: every byte authenticated")?,
            Some(tier) => writeln!(
                &out,
                "wrote tier {} to {output}, which is not the original: every byte authenticated",
                one_line(&tier)
            )?,
        }
    }
    Ok(())
}
