//! `onnxseal labels protect`

use anyhow::Result;
use onnxseal_labels::Error;
use onnxseal_labels::decoding::Decoding;
use onnxseal_labels::encrypt::{EncryptOptions, Encrypted, MAX_FIRING, encrypt};

use super::authority;
use crate::cli::labels::Protect;
use crate::commands::compared::compared;
use crate::text::{count, one_line, tell};

/// Protects the labels of a model, and notes it in the authority's file.
pub fn run(args: &Protect) -> Result<()> {
    let output = args.output.for_output_of(&args.model)?;
    // Check early, because running calibration data takes long.
    let is_free = args.output_options.core().check_free(&output);
    is_free.map_err(onnxseal_core::Error::Store)?;
    authority::check(&args.authority.authority)?;
    let mut authority = authority::read(&args.authority)?;
    let data = crate::commands::assess::data(&args.data)?;
    let data_options = args.data.options();
    let decoding = args.targets.as_deref().map(Decoding::read).transpose()?;
    let mut options = EncryptOptions::default();
    options.decoding = decoding.as_ref();
    options.output_name = args.data.output_name.as_deref();
    options.traces = args.traces;
    options.data = data.as_ref().map(|data| (data, &data_options));
    let encrypted = encrypt(&args.model, &authority, options)?;
    if !args.no_check && encrypted.needs_check() {
        let differs = |error: &Error| matches!(error, Error::Differs { .. });
        let difference = compared(true, differs, || encrypted.check(&authority))?;
        tell(&format!(
            "compared on ONNX Runtime: decoded answers differ from the original's by {difference:.1e} of the largest"
        ));
    }
    // Note it first: a model with unknown traces could not be traced.
    let name = one_line(&output.to_name().display().to_string());
    authority.add_model(encrypted.protected(name));
    let noted = authority::replace(&authority, &args.authority.authority)?;
    let written = encrypted.write(&output, args.output_options.core())?;
    noted.keep();
    let to = written.files.last().map(|path| path.display().to_string());
    report(&encrypted, &one_line(&to.unwrap_or_default()));
    tell(
        "in plain, the result is the classifier without the names of its classes: run `onnxseal protect` on it too",
    );
    Ok(())
}

fn report(encrypted: &Encrypted<'_>, written: &str) {
    let summary = encrypted.summary();
    tell(&format!(
        "wrote {written}: node {} answers with {} for {} classes",
        summary.node,
        count(u64::from(summary.rows), "row"),
        // At least two.
        summary.classes
    ));
    if summary.traces > 0 {
        tell(&format!(
            "{}; of {} held out, {:.2} % fired one",
            count(summary.traces as u64, "trace"),
            count(summary.held_out as u64, "calibration sample"),
            100.0 * summary.firing
        ));
        if summary.firing > MAX_FIRING {
            tell(
                "warning: traces change what key holders read of such samples: give more calibration samples, or ask for fewer traces",
            );
        }
    }
}
