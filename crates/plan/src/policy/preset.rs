//! Ready-made policies.

use std::str::FromStr;

use serde::Deserialize;

use crate::error::Error;
use crate::rules::Class;

/// A ready-made policy. The parts that it leaves in clear stay readable by anyone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
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

impl Preset {
    /// Every preset, from the one that encrypts least to the one that encrypts most.
    pub const ALL: [Preset; 3] = [Preset::Balanced, Preset::Strong, Preset::Full];

    /// Returns the name that policies and command lines use.
    pub fn name(self) -> &'static str {
        match self {
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
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Preset, Error> {
        let named = Preset::ALL.into_iter().find(|preset| preset.name() == name);
        let unknown = || format!("unknown preset {name:?}: expected balanced, strong or full");
        named.ok_or_else(|| Error::Policy(unknown()))
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
            assert!(coefficients.is_sorted() && coefficients[0] > 0.0 && coefficients[2] == 1.0);
        }
    }
}
