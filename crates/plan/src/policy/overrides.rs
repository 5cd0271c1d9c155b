//! Exceptions by name.

use globset::{Glob, GlobMatcher};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::error::Error;

/// An exception by name.
#[derive(Clone, Debug)]
pub struct Override {
    pub(super) target: Target,
    glob: GlobMatcher,
    pub(super) coefficient: f64,
}

/// The names that the pattern of an [`Override`] is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Names of nodes.
    Node,
    /// Names of tensors.
    Initializer,
}

impl Override {
    /// Gives `coefficient` to each name that `pattern` matches: `*` stands for any characters, `?`
    /// for one, `[ab]` for one of these, `{a,b}` for either.
    pub fn new(target: Target, pattern: &str, coefficient: f64) -> Result<Override, Error> {
        Ok(Override {
            target,
            glob: glob(pattern)?,
            coefficient: share(coefficient)?,
        })
    }

    pub(crate) fn target(&self) -> Target {
        self.target
    }

    pub(crate) fn pattern(&self) -> &str {
        self.glob.glob().glob()
    }

    pub(crate) fn coefficient(&self) -> f64 {
        self.coefficient
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.glob.is_match(name)
    }
}

/// Compiles a pattern: `*` stands for any characters, `?` for one.
pub(super) fn glob(pattern: &str) -> Result<GlobMatcher, Error> {
    let glob = Glob::new(pattern).map_err(|source| Error::Pattern {
        pattern: pattern.to_owned(),
        source,
    })?;
    Ok(glob.compile_matcher())
}

/// Checks that a number is from 0 to 1.
pub(super) fn share(value: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Error::Coefficient { value })
    }
}

/// Reads a number from 0 to 1.
pub(super) fn read_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    share(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}
