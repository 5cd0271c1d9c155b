//! What is said of a candidate.

use std::fmt;

use serde::Serialize;

/// Whether a candidate holds against an attack, or against all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
#[non_exhaustive]
pub enum Verdict {
    /// The original is better than the floor by twice the margin or more, and the attack's interval
    /// ends at most the margin above the floor.
    Holds {
        /// Whether it holds only if the model has no public ancestor, because none was tried. Only
        /// candidates have this.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        if_no_public_base: bool,
    },
    /// The samples show neither.
    CannotTell(Doubt),
    /// The value is above the floor plus the margin, or nothing is encrypted.
    Leaks,
}

/// Why there is no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
#[non_exhaustive]
pub enum Doubt {
    /// The original is not better than the floor by twice the margin: there is nothing to protect
    /// that these samples show.
    NoGap,
    /// There are too few samples.
    TooFewSamples {
        /// The approximate number that would be enough, if any would.
        needed_samples: Option<u64>,
    },
    /// Inputs have NaN.
    NanInputs,
    /// The inputs are random numbers.
    RandomInputs,
    /// The samples are whole numbers, the model takes floats, and nobody said how it scales them.
    Unscaled,
    /// Over a hundredth keeps its values in floors: single numbers, strings, lists in attributes.
    Unreplaced,
    /// Weights are in clear, and nobody said whether there is a public base.
    NoBase,
    /// No probe was tried with at least a label for each class.
    NoProbe,
    /// No fill, or this attack, gave a number.
    NotMeasured,
}

impl Verdict {
    /// Holds, under no condition.
    pub(crate) fn holds() -> Verdict {
        Verdict::Holds {
            if_no_public_base: false,
        }
    }

    /// Returns 0 for the best verdict, 2 for the worst.
    pub fn rank(self) -> u8 {
        match self {
            Verdict::Holds { .. } => 0,
            Verdict::CannotTell(_) => 1,
            Verdict::Leaks => 2,
        }
    }

    /// Returns the verdict without reason or condition.
    pub fn word(self) -> &'static str {
        ["holds", "cannot tell", "leaks"][usize::from(self.rank())]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Verdict::Holds {
                if_no_public_base: true,
            } => f.write_str(", if no public ancestor exists"),
            Verdict::CannotTell(doubt) => write!(f, ": {doubt}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Doubt::TooFewSamples {
            needed_samples: Some(n),
        } = self
        {
            return write!(f, "too few samples, about {n} would do");
        }
        f.write_str(match self {
            Doubt::NoGap => "the original is hardly better than a floor",
            Doubt::TooFewSamples { .. } => "too few samples",
            Doubt::NanInputs => "some inputs are NaN",
            Doubt::RandomInputs => "the inputs are random numbers",
            Doubt::Unscaled => "nobody said how values are scaled",
            Doubt::Unreplaced => "weights may lie where no floor replaces them",
            Doubt::NoBase => "no public base was tried",
            Doubt::NoProbe => "too few labels for a probe",
            Doubt::NotMeasured => "no attack gave a number",
        })
    }
}
