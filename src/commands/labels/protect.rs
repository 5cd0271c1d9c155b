//! `onnxseal labels protect`

use anyhow::Result;

use super::authority;
use super::encrypt::{Wanted, encrypt};
use crate::cli::labels::Protect;
use crate::text::{note, one_line};

/// Protects the labels of a model, and notes it in the authority's file.
pub fn run(args: &Protect, quiet: bool) -> Result<()> {
    let output = args.output.for_output_of(&args.model)?;
    // At once: a run over calibration data takes long.
    let is_free = args.output_options.check_free(&output);
    is_free.map_err(onnxseal_core::Error::Store)?;
    let mut authority = authority::read(&args.authority, quiet)?;
    let wanted = Wanted {
        codewords: args.codewords,
        targets: args.targets.as_deref(),
        output_name: args.output_name.as_deref(),
        traces: args.traces,
        data: Some(&args.data),
        check: !args.no_check,
    };
    let encrypted = encrypt(&args.model, &authority, &wanted, quiet)?;
    // The note first: a model whose traces nobody knows could not be traced.
    authority.add_model(encrypted.protected(&output));
    authority::replace(&authority, &args.authority.authority)?;
    let written = encrypted.write(&output, args.output_options.core())?;
    if !quiet {
        let to = written.files.last().map(|path| path.display().to_string());
        encrypted.report(&format!("wrote {}", one_line(&to.unwrap_or_default())));
        note(
            "labels that only key holders read do not hide features: run `onnxseal protect` on the result too",
        );
    }
    Ok(())
}
