//! Ready-made policies.

use std::str::FromStr;

use serde::Deserialize;

use crate::error::Error;
use crate::rules::Class;

/// A ready-made policy. The parts that it leaves in clear stay readable by anyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The heaviest twentieth. The model does not work as it is, but a determined attacker
    /// succeeds.
    Light,
    /// About a sixth, the heaviest first. An attacker with the public model that this one was
    /// fine-tuned from gets much of it back.
    Balanced,
    /// About half of the weights, the heaviest first.
    Strong,
    /// Everything of two or more elements that the graph's shapes are not computed from, whatever
    /// reads it. What cannot be encrypted where it lies is an error.
    #[default]
    Full,
}

/// A preset's coefficients.
struct Row {
    preset: Preset,
    name: &'static str,
    /// Recurrent operators and lookup tables, whose weights are more redundant.
    redundant: f64,
    /// Normalisations, biases and arithmetic, few bytes on which the whole network depends.
    /// Classical models too, since the rest of a forest or a linear model would work as it is.
    small: f64,
    /// All others, including operators without a rule.
    default: f64,
    /// The largest model, in bytes of weights, that is encrypted whole.
    small_model_bytes: u64,
}

/// In small models one subsequence is a large part of a tensor, and the strength of a partial
/// encryption varies from model to model. Opening so few bytes costs nothing.
const SMALL_MODEL_BYTES: u64 = 44 << 10;

#[rustfmt::skip]
static ROWS: [Row; 4] = [
    Row { preset: Preset::Light, name: "light", redundant: 0.05, small: 0.05, default: 0.05, small_model_bytes: 0 },
    Row { preset: Preset::Balanced, name: "balanced", redundant: 0.38, small: 1.0, default: 0.155, small_model_bytes: SMALL_MODEL_BYTES },
    Row { preset: Preset::Strong, name: "strong", redundant: 0.6, small: 1.0, default: 0.5, small_model_bytes: SMALL_MODEL_BYTES },
    Row { preset: Preset::Full, name: "full", redundant: 1.0, small: 1.0, default: 1.0, small_model_bytes: 0 },
];

impl Preset {
    /// Every preset, from the one that encrypts least to the one that encrypts most.
    pub const ALL: [Preset; 4] = [
        Preset::Light,
        Preset::Balanced,
        Preset::Strong,
        Preset::Full,
    ];

    /// Returns the name that policies and command lines use.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the text of a policy that equals this preset.
    pub fn policy_text(self) -> String {
        format!("preset = \"{}\"\n", self.name())
    }

    /// Returns the coefficient of a family of operators; `None` stands for an operator without a
    /// rule.
    pub(crate) fn coefficient(self, class: Option<Class>) -> f64 {
        let row = self.row();
        match class {
            Some(Class::Recurrent | Class::Embedding) => row.redundant,
            Some(Class::Normalization | Class::Bias | Class::Arithmetic | Class::Classical) => {
                row.small
            }
            _ => row.default,
        }
    }

    /// Returns the largest model, in bytes of weights, that is encrypted whole.
    pub(crate) fn small_model_bytes(self) -> u64 {
        self.row().small_model_bytes
    }

    fn row(self) -> &'static Row {
        let [light, balanced, strong, full] = &ROWS;
        match self {
            Preset::Light => light,
            Preset::Balanced => balanced,
            Preset::Strong => strong,
            Preset::Full => full,
        }
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Preset, Error> {
        let row = ROWS.iter().find(|row| row.name == name);
        row.map(|row| row.preset).ok_or_else(|| Error::Preset {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn rows_stand_under_their_names_and_grow() {
        for preset in Preset::ALL {
            assert_eq!(preset.row().preset, preset);
            assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
        }
        assert!("Full".parse::<Preset>().is_err());
        for class in [
            None,
            Some(Class::Convolution),
            Some(Class::Bias),
            Some(Class::Dense),
        ] {
            let coefficients = Preset::ALL.map(|preset| preset.coefficient(class));
            assert!(coefficients.is_sorted() && coefficients[0] > 0.0 && coefficients[3] == 1.0);
        }
    }
}
