//! Ready-made policies.

use std::str::FromStr;

use crate::error::Error;
use crate::rules::Class;

/// A ready-made policy. Anyone can read the parts that it leaves in clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// Enough to stop the model from working without the key; most weights are visible.
    Light,
    /// A quarter of convolutions, all of the small parameters, some of the rest.
    #[default]
    Balanced,
    /// Half of everything, all of the small parameters.
    Strong,
    /// Every weight that the rules find and that can be replaced in place.
    Full,
}

/// A preset's coefficients.
struct Row {
    preset: Preset,
    name: &'static str,
    convolution: f64,
    /// Normalisations, biases and arithmetic: few bytes that the whole network hangs on.
    small: f64,
    /// All the others, operators without a rule among them.
    default: f64,
}

#[rustfmt::skip]
static ROWS: [Row; 4] = [
    Row { preset: Preset::Light, name: "light", convolution: 0.05, small: 0.05, default: 0.05 },
    Row { preset: Preset::Balanced, name: "balanced", convolution: 0.25, small: 1.0, default: 0.15 },
    Row { preset: Preset::Strong, name: "strong", convolution: 0.5, small: 1.0, default: 0.5 },
    Row { preset: Preset::Full, name: "full", convolution: 1.0, small: 1.0, default: 1.0 },
];

impl Preset {
    /// Every preset, from the least to the most.
    pub const ALL: [Preset; 4] = [
        Preset::Light,
        Preset::Balanced,
        Preset::Strong,
        Preset::Full,
    ];

    /// The name that policies and command lines use.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The coefficient of a family of operators; `None` is an operator without a rule.
    pub(crate) fn coefficient(self, class: Option<Class>) -> f64 {
        let row = self.row();
        match class {
            Some(Class::Convolution) => row.convolution,
            Some(Class::Normalization | Class::Bias | Class::Arithmetic) => row.small,
            _ => row.default,
        }
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
