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

/// In small models one subsequence is a large part of a tensor, and the strength of a partial
/// encryption varies from model to model. Opening so few bytes costs nothing.
const SMALL_MODEL_BYTES: u64 = 44 << 10;

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
        match self {
            Preset::Light => "light",
            Preset::Balanced => "balanced",
            Preset::Strong => "strong",
            Preset::Full => "full",
        }
    }

    /// Returns the text of a policy that equals this preset.
    pub fn policy_text(self) -> String {
        format!("preset = \"{}\"\n", self.name())
    }

    /// Returns the coefficient of a family of operators; `None` stands for an operator without a
    /// rule.
    pub(crate) fn coefficient(self, class: Option<Class>) -> f64 {
        let (redundant, small, default) = match self {
            Preset::Light => (0.05, 0.05, 0.05),
            Preset::Balanced => (0.38, 1.0, 0.155),
            Preset::Strong => (0.6, 1.0, 0.5),
            Preset::Full => (1.0, 1.0, 1.0),
        };
        match class {
            // Their weights are more redundant.
            Some(Class::Recurrent | Class::Embedding) => redundant,
            // Few bytes, on which the whole network depends. Classical models too, since the rest
            // of a forest or a linear model would work as it is.
            Some(Class::Normalization | Class::Bias | Class::Arithmetic | Class::Classical) => {
                small
            }
            _ => default,
        }
    }

    /// Returns the largest model, in bytes of weights, that is encrypted whole.
    pub(crate) fn small_model_bytes(self) -> u64 {
        match self {
            Preset::Balanced | Preset::Strong => SMALL_MODEL_BYTES,
            Preset::Light | Preset::Full => 0,
        }
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Preset, Error> {
        let named = Preset::ALL.into_iter().find(|preset| preset.name() == name);
        named.ok_or_else(|| {
            Error::Policy(format!(
                "unknown preset {name:?}: expected light, balanced, strong or full"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn presets_have_names_and_grow() {
        for preset in Preset::ALL {
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
