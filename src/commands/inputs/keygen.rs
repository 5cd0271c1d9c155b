//! `onnxseal inputs keygen`

use std::io::Write as _;

use anyhow::Result;
use onnxseal_core::write_key;
use onnxseal_inputs::{InputKey, Spec, Transform};

use crate::cli::inputs::Keygen;
use crate::text::tell;

/// Smaller blocks have so few values that keyed images alone reveal the key.
const SMALL_BLOCK: u32 = 8;

/// Brute force can try fewer keys than two to the power of this.
const FEW_BITS: f64 = 40.0;

pub fn run(args: &Keygen) -> Result<()> {
    let recipients = args.recipients.read_untiered("an input key")?;
    let key = InputKey::generate(args.spec())?;
    let text = match &recipients {
        Some(recipients) => key.to_encrypted_text(recipients)?.into(),
        None => key.to_text(),
    };
    match &args.output {
        Some(path) => write_key(path, &text)?,
        None => std::io::stdout().lock().write_all(text.as_bytes())?,
    }
    let spec = key.spec();
    tell(&format!(
        "2^{:.0} possible keys. This is not encryption of images: docs/INPUTS.md says what it stops.",
        spec.key_bits().floor()
    ));
    for warning in warnings(spec) {
        tell(&format!("warning: {warning}"));
    }
    Ok(())
}

fn warnings(spec: &Spec) -> Vec<String> {
    let mut warnings = Vec::new();
    let scrambles = [Transform::Negative, Transform::Ffx, Transform::Orthogonal];
    if !scrambles.iter().any(|transform| spec.has(*transform)) {
        warnings.push(
            "without negative or orthogonal, a model still answers many plain images correctly"
                .to_owned(),
        );
    }
    if spec.key_bits() < FEW_BITS {
        warnings.push("there are so few keys that an attacker can try them all".to_owned());
    }
    if spec.block < SMALL_BLOCK && spec.has(Transform::Orthogonal) {
        warnings.push(format!(
            "with blocks of {0} x {0}, orthogonal locks less than negative: plain images had 16 to 28 % right where guessing has 10 %; choose larger ones if the model's patches are larger, or shuffle,negative",
            spec.block
        ));
    } else if spec.block < SMALL_BLOCK {
        warnings.push(format!(
            "with blocks of {0} x {0}, some twenty keyed images give the whole key; choose larger ones if the model's patches are larger",
            spec.block
        ));
    }
    warnings
}
