//! `onnxseal labels protect`, and the labels of `onnxseal protect --labels`.

use std::path::Path;

use anyhow::{Context as _, Error, Result};
use onnxseal_core::{InMemory, Location, Replaced};
use onnxseal_engine::Engine;
use onnxseal_labels::decoding::Decoding;
use onnxseal_labels::encrypt::{EncryptOptions, Encrypted, MAX_FIRING, encrypt};
use onnxseal_labels::{Authority, Error as LabelError};

use super::authority;
use crate::cli::labels::Protect;
use crate::keys::{IdentityArgs, label_authority};
use crate::text::{count, note, one_line};

/// Protects the labels of a model, and notes it in the authority's file.
pub fn run(args: &Protect, quiet: bool) -> Result<()> {
    let output = args.output.for_output_of(&args.model)?;
    // Check early, because running calibration data takes long.
    let is_free = args.output_options.core().check_free(&output);
    is_free.map_err(onnxseal_core::Error::Store)?;
    authority::check(&args.authority.authority)?;
    let mut authority = authority::read(&args.authority, quiet)?;
    let data = crate::commands::assess::data(&args.data)?;
    let data_options = args.data.options();
    let decoding = args.targets.as_deref().map(Decoding::read).transpose()?;
    let mut options = EncryptOptions::default();
    options.codewords = args.codewords;
    options.decoding = decoding.as_ref();
    options.output_name = args.output_name.as_deref();
    options.traces = args.traces;
    options.data = data.as_ref().map(|data| (data, &data_options));
    let encrypted = encrypt(&args.model, &authority, options)?;
    if !args.no_check {
        check(
            &encrypted,
            &authority,
            "the result was not run, so nothing was written: --no-check skips the run",
            quiet,
        )?;
    }
    // Note it first: a model with unknown traces could not be traced.
    authority.add_model(encrypted.protected(noted_name(&output)));
    let noted = authority::replace(&authority, &args.authority.authority)?;
    let written = encrypted.write(&output, args.output_options.core())?;
    noted.keep();
    if !quiet {
        let to = written.files.last().map(|path| path.display().to_string());
        report(
            &encrypted,
            &format!("wrote {}", one_line(&to.unwrap_or_default())),
        );
        note(
            "in plain, the result is the classifier without the names of its classes: run `onnxseal protect` on it too",
        );
    }
    Ok(())
}

/// Encrypts the labels of a model for `onnxseal protect --labels`, in memory. Returns it with the
/// authority that has noted it.
pub fn in_memory(
    model: &Location,
    output: &Location,
    path: &Path,
    identities: &IdentityArgs,
    quiet: bool,
) -> Result<(InMemory, Replaced)> {
    authority::check(path)?;
    let mut authority = label_authority(path, "--labels", identities, quiet)?;
    let encrypted = encrypt(model, &authority, EncryptOptions::default())?;
    check(
        &encrypted,
        &authority,
        "the result was not run, so nothing was written: `onnxseal labels protect --no-check` skips the run, and its output can be protected",
        quiet,
    )?;
    authority.add_model(encrypted.protected(noted_name(output)));
    let noted = authority::replace(&authority, path)?;
    if !quiet {
        report(&encrypted, "encrypted labels");
    }
    Ok((encrypted.in_memory()?, noted))
}

fn noted_name(output: &Location) -> String {
    one_line(&output.to_name().display().to_string())
}

/// Compares the result with the original. `not_run` is the context of errors that stop the
/// comparison.
fn check(
    encrypted: &Encrypted<'_>,
    authority: &Authority,
    not_run: &'static str,
    quiet: bool,
) -> Result<()> {
    if !encrypted.needs_check() {
        return Ok(());
    }
    // Before the models take memory.
    Engine::load().context(not_run)?;
    let difference = encrypted.check(authority).map_err(|error| match error {
        error @ LabelError::Differs { .. } => Error::from(error),
        error => Error::from(error).context(not_run),
    })?;
    if !quiet {
        note(&format!(
            "compared on ONNX Runtime: decoded answers differ from the original's by {difference:.1e} of the largest"
        ));
    }
    Ok(())
}

/// Reports on the encrypted labels, after the text `what`.
fn report(encrypted: &Encrypted<'_>, what: &str) {
    let summary = encrypted.summary();
    note(&format!(
        "{what}: node {} answers with {} for {} classes",
        summary.node,
        count(u64::from(summary.rows), "row"),
        // At least two.
        summary.classes
    ));
    if summary.traces > 0 {
        note(&format!(
            "{}; of {} held out, {:.2} % fired one",
            count(summary.traces as u64, "trace"),
            count(summary.held_out as u64, "calibration sample"),
            100.0 * summary.firing
        ));
        if summary.firing > MAX_FIRING {
            note(
                "warning: traces change what key holders read of such samples: give more calibration samples, or ask for fewer traces",
            );
        }
    }
}
