//! The values of a policy, checked as they are read, so that errors show their place.

use std::fmt;

use globset::{Glob, GlobMatcher};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::error::Error;
use crate::rules;
use crate::similar::similar;
use crate::subsequence::check_unit_bytes;

/// An operator type with weights, as domain and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpType(pub &'static str, pub &'static str);

impl<'de> Deserialize<'de> for OpType {
    fn deserialize<D: Deserializer<'de>>(name: D) -> Result<OpType, D::Error> {
        OpType::find(&String::deserialize(name)?).map_err(D::Error::custom)
    }
}

impl OpType {
    pub fn find(name: &str) -> Result<OpType, Error> {
        let rule = rules::find_qualified(name).filter(|rule| rule.class().is_some());
        let rule = rule.ok_or_else(|| {
            let similar = similar(name, rules::with_weights().map(rules::Rule::name));
            let meant = similar.map(|name| format!(" (did you mean {name:?}?)"));
            Error::Policy(format!(
                "no operator type with weights is called {name:?}{}; weights of operators without a \
                 rule are chosen by initializer name",
                meant.unwrap_or_default()
            ))
        })?;
        Ok(OpType(rule.domain, rule.op_type))
    }
}

/// What a mode is for: an operator type, or `default` for every type without a mode of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ModeKey(pub Option<OpType>);

impl TryFrom<String> for ModeKey {
    type Error = Error;

    fn try_from(name: String) -> Result<ModeKey, Error> {
        Ok(ModeKey(match &*name {
            "default" => None,
            _ => Some(OpType::find(&name)?),
        }))
    }
}

/// The table of an operator type.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfType {
    #[serde(deserialize_with = "read_share")]
    pub coefficient: f64,
}

/// An exception by name, of nodes or of tensors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Override {
    pub node: Option<Pattern>,
    pub initializer: Option<Pattern>,
    #[serde(deserialize_with = "read_share")]
    pub coefficient: f64,
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, pattern) = match &self.node {
            Some(pattern) => ("node", Some(pattern)),
            None => ("initializer", self.initializer.as_ref()),
        };
        let pattern = pattern.map_or("", Pattern::text);
        write!(f, "the override of {of} {pattern:?}")
    }
}

/// A pattern of names: `*` stands for any characters, `?` for one, `[ab]` for one of these, `{a,b}`
/// for either.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pattern(GlobMatcher);

impl Pattern {
    pub fn text(&self) -> &str {
        self.0.glob().glob()
    }

    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(pattern: String) -> Result<Pattern, Error> {
        let glob = Glob::new(&pattern);
        let glob = glob.map_err(|error| Error::Policy(format!("invalid pattern: {error}")))?;
        Ok(Pattern(glob.compile_matcher()))
    }
}

/// Checks that a number is from 0 to 1.
pub(super) fn share(value: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    let what = format!("coefficient {value} is not from 0 to 1");
    Err(Error::Policy(what))
}

pub(super) fn read_share<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    share(f64::deserialize(value)?).map_err(D::Error::custom)
}

pub(super) fn read_budget<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    read_share(value).map(Some)
}

pub(super) fn read_unit<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    let bytes = u64::deserialize(value)?;
    check_unit_bytes(bytes).map_err(D::Error::custom)?;
    Ok(Some(bytes))
}
