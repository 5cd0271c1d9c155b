//! Fingerprints.

use std::path::PathBuf;

use onnxseal_core::write_key;
use onnxseal_fingerprint::{Report, Secret, apply, compare, trace};
use onnxseal_rewrite::Files;
use pyo3::prelude::*;

use crate::assess::{library, load};
use crate::calls::as_dict;
use crate::data::{Data, preparation};
use crate::errors::{Result, usage};
use crate::keys::AudienceArgs;
use crate::keywords::Keywords;
use crate::marks::secret;
use crate::output::{Out, output_options};
use crate::source::Source;

/// Makes a fingerprint secret, from which the marks of all models and customers derive; never over an existing file.
#[pyfunction]
#[pyo3(signature = (path, recipients = None))]
pub fn generate_fingerprint_secret(path: PathBuf, recipients: Option<AudienceArgs>) -> Result<()> {
    let secret = Secret::generate()?;
    let recipients = recipients.map(AudienceArgs::read).transpose()?;
    let text = match recipients.unwrap_or_default().pop() {
        None => secret.to_text(),
        Some((None, recipients)) => secret.to_encrypted_text(&recipients)?.into(),
        Some(_) => return Err(usage("a fingerprint secret has no tiers")),
    };
    Ok(write_key(&path, &text)?)
}

#[pyfunction(name = "_apply_fingerprint")]
pub fn apply_fingerprint<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let check: bool = keywords.get("check")?;
    let library = if check { library(keywords.py())? } else { None };
    let model = keywords.model()?;
    let secret = secret(&keywords, ["secret", "identity"])?;
    let (customer, strength): (String, _) = (keywords.get("customer")?, keywords.get("strength")?);
    let (data, how) = (Data::of(&keywords)?, preparation(&keywords)?);
    let output: Option<String> = keywords.get("output")?;
    let options = output_options(&keywords)?;
    let to = Out::open(keywords.get("out")?, &keywords)?;
    let out = to.location();
    let made = keywords.run(move |progress| {
        options.check_free(&out)?;
        let data = data.read(&how)?;
        let marked = apply(&model, &secret(progress)?, &customer, strength, progress)?;
        let report = if check {
            // Without ONNX Runtime, the report says so.
            let _ = load(library);
            let data = data.as_ref().map(|data| (data, &how));
            compare(&model, &marked, data, output.as_deref())?
        } else {
            Report::without(&marked, "check=False was given")
        };
        Files::open(&marked.model)?.write(&[], &out, options)?;
        Ok(report)
    });
    as_dict(keywords.py(), &to.finish(keywords.py(), made)?)
}

#[pyfunction(name = "_trace_fingerprint")]
pub fn trace_fingerprint<'py>(keywords: Keywords<'py>) -> Result<Bound<'py, PyAny>> {
    let leak = keywords.get::<Source>("leak")?.location()?;
    let original = keywords.get::<Source>("original")?.location()?;
    let secret = secret(&keywords, ["secret", "identity"])?;
    let customers: Vec<String> = keywords.several("customers")?;
    let traced = keywords.run(move |progress| {
        let (original, leak) = (Files::open(&original)?, Files::open(&leak)?);
        let secret = secret(progress)?;
        Ok(trace(&original, &leak, &secret, &customers, progress)?)
    })?;
    as_dict(keywords.py(), &traced)
}
