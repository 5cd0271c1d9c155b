//! Estimates the time that smaller presets would save on processors without AES instructions.

use onnxseal_plan::{Policy, Preset, plan, uniform};
use onnxseal_store::Location;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::pass::source::Source;
use crate::pass::states::Volume;

/// The time to decrypt a byte over the time to authenticate one, on a processor without
/// instructions for either. Every byte is authenticated. docs/PERFORMANCE.md has the measurement.
const DECRYPTING: f64 = 1.2;

/// A preset that encrypts less of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SmallerRow {
    /// Its name.
    pub preset: &'static str,
    /// The weights of all operators together.
    #[serde(flatten)]
    pub weights: Volume,
    /// The estimated time to open the model without AES instructions, relative to the planned
    /// protection.
    pub opening: f64,
}

/// Returns the presets that encrypt less of the model at `location` than `planned`, from the most
/// to the least. Returns none if the machine has AES instructions (`has_aes`), because they would
/// save nothing there. Reads no weights.
///
/// # Errors
/// `Malformed`, `Io`.
pub fn smaller_presets(
    location: impl Into<Location>,
    planned: Volume,
    has_aes: bool,
) -> Result<Vec<SmallerRow>> {
    if has_aes {
        return Ok(Vec::new());
    }
    let source = Source::open(&location.into())?;
    let model = source.locate(source.input.len)?;
    let mut rows = Vec::new();
    for preset in Preset::ALL.into_iter().rev() {
        // The encrypted volume is the same for all scores.
        let plan = plan(&model, &Policy::preset(preset), |wanted| {
            Ok(uniform(wanted))
        });
        let plan = plan.map_err(Error::Policy)?;
        let weights = Volume::new(plan.total_bytes(), plan.encrypted_bytes());
        if weights.encrypted_bytes < planned.encrypted_bytes {
            let takes = |volume: Volume| 1.0 + DECRYPTING * volume.share;
            rows.push(SmallerRow {
                preset: preset.name(),
                weights,
                opening: takes(weights) / takes(planned),
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::path::Path;

    use super::*;
    use crate::make::protect;

    #[test]
    fn smaller_presets_are_those_that_encrypt_less() {
        let model = Path::new("../../fixtures/models/digits_cnn.onnx");
        let planned = |preset| {
            protect::plan(model, &Policy::preset(preset))
                .unwrap()
                .weights
        };
        let full = planned(Preset::Full);
        let rows = smaller_presets(model, full, false).unwrap();
        let presets = [Preset::Strong, Preset::Balanced, Preset::Light];
        // The volumes must equal those of plans by real scores.
        for (row, preset) in rows.iter().zip(presets) {
            assert_eq!((row.preset, row.weights), (preset.name(), planned(preset)));
        }
        let opening = rows.iter().map(|row| (row.opening * 100.0).round());
        assert_eq!(opening.collect::<Vec<_>>(), [73.0, 54.0, 48.0]);
        let rows = smaller_presets(model, planned(Preset::Balanced), false).unwrap();
        let [light] = &rows[..] else {
            panic!("{rows:?}")
        };
        assert_eq!(light.preset, "light");
        let smallest = planned(Preset::Light);
        assert_eq!(smaller_presets(model, smallest, false).unwrap(), []);
        assert_eq!(smaller_presets(model, full, true).unwrap(), []);
    }
}
