//! `onnxseal inputs rewrite` and `rekey`

use anyhow::Result;
use onnxseal_core::Location;
use onnxseal_inputs::rewrite::{self, Files, Rewritten};
use onnxseal_inputs::{Error, InputKey};

use crate::cli::inputs::{Rekey, Rewrite, RewriteArgs};
use crate::commands::compared::compared;
use crate::exit::usage;
use crate::text::{one_line, tell};

pub fn run(args: &Rewrite) -> Result<()> {
    let key = (args.output.identities).open(&args.key, "--key", InputKey::read)?;
    let files = Files::open(&args.model)?;
    let input = args.output.input.as_deref();
    let rewritten = files.with(|source| rewrite::rewrite(source, &key, input))?;
    let models = (&args.model, &files, &rewritten);
    write(models, (None, &key), &args.output)
}

/// Changes the key that a model was rewritten for.
pub fn rekey(args: &Rekey) -> Result<()> {
    let old = (args.output.identities).open(&args.key, "--key", InputKey::read)?;
    let new = (args.output.identities).open(&args.to, "--to", InputKey::read)?;
    let files = Files::open(&args.model)?;
    let input = args.output.input.as_deref();
    let rewritten = files.with(|source| rewrite::rekey(source, &old, &new, input))?;
    tell(
        "the model does not show which key it was made for: if it was not --key, the result takes no images of --to",
    );
    let models = (&args.model, &files, &rewritten);
    write(models, (Some(&old), &new), &args.output)
}

/// Compares the result with the original, and writes it if they agree.
fn write(
    (model, files, rewritten): (&Location, &Files, &Rewritten),
    keys: (Option<&InputKey>, &InputKey),
    args: &RewriteArgs,
) -> Result<()> {
    let output = args.output.for_output_of(model)?;
    // Check early, because running a large model takes long.
    let is_free = args.output_options.core().check_free(&output);
    is_free.map_err(onnxseal_inputs::Error::Store)?;
    if !args.no_check {
        check(files, rewritten, keys)?;
    } else if !rewritten.is_exact {
        return Err(usage(
            "the result is not exact by construction, so it must be run: leave out --no-check",
        ));
    }
    let written = files.write(&rewritten.edits, &output, args.output_options.core())?;
    let names = rewritten.tensors.iter().map(|name| format!("{name:?}"));
    let names: Vec<String> = names.collect();
    let to = written.files.last().map(|path| path.display().to_string());
    tell(&format!(
        "wrote {}: input {:?} takes keyed images; changed {}",
        one_line(&to.unwrap_or_default()),
        rewritten.input,
        names.join(", ")
    ));
    Ok(())
}

fn check(files: &Files, rewritten: &Rewritten, keys: (Option<&InputKey>, &InputKey)) -> Result<()> {
    let differs = |error: &Error| matches!(error, Error::Differs { .. });
    let agreement = compared(rewritten.is_exact, differs, || {
        rewrite::check(files, rewritten, keys)
    })?;
    tell(&format!(
        "compared on ONNX Runtime: outputs differ by {:.1e} of the largest value; those of the original with and without optimizations by {:.1e}",
        agreement.changed, agreement.own
    ));
    Ok(())
}
