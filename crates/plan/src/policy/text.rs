//! Policies as TOML. Every value is checked as it is read, so that errors show its place.

use std::collections::BTreeMap;

use globset::Glob;
use serde::Deserialize;
use toml::Spanned;

use super::overrides::share;
use super::{Override, Policy, Preset, Require, Target};
use crate::error::Error;
use crate::position::Strategy;
use crate::tiers::{Mode, Tier};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    preset: Preset,
    #[serde(default)]
    strategy: Strategy,
    unit: Option<Spanned<u64>>,
    budget: Option<Spanned<Share>>,
    lock: Option<bool>,
    #[serde(default)]
    allow_clear: Vec<Pattern>,
    default: Option<OfType>,
    #[serde(default)]
    op: BTreeMap<Spanned<String>, OfType>,
    #[serde(default, rename = "override")]
    overrides: Vec<Spanned<Exception>>,
    #[serde(default, rename = "tier")]
    tiers: Vec<Spanned<Tier>>,
    #[serde(default)]
    mode: BTreeMap<Spanned<String>, Mode>,
    #[serde(default)]
    require: Require,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfType {
    coefficient: Share,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    node: Option<Pattern>,
    initializer: Option<Pattern>,
    coefficient: Share,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Share(f64);

impl TryFrom<f64> for Share {
    type Error = Error;
    fn try_from(value: f64) -> Result<Share, Error> {
        share(value).map(Share)
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Pattern(String);

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(pattern: String) -> Result<Pattern, String> {
        Glob::new(&pattern).map_err(|error| error.to_string())?;
        Ok(Pattern(pattern))
    }
}

impl Policy {
    /// Reads a policy from TOML, as `docs/POLICY.md` describes it.
    pub fn parse(toml: &str) -> Result<Policy, Error> {
        let file: File = toml::from_str(toml).map_err(|error| Error::PolicyText {
            message: error.to_string().trim_end().to_owned(),
        })?;
        let at = |span: std::ops::Range<usize>, what: String| {
            let before = toml.get(..span.start).unwrap_or(toml);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            Error::PolicyText {
                message: format!("{what} at line {line}, column {column}"),
            }
        };
        let mut policy = Policy::preset(file.preset);
        policy.strategy = file.strategy;
        if let Some(unit) = file.unit {
            let (span, bytes) = (unit.span(), unit.into_inner());
            policy
                .set_unit_bytes(bytes)
                .map_err(|error| at(span, error.to_string()))?;
        }
        if let Some(budget) = file.budget {
            if policy.strategy != Strategy::Energy {
                let what = "only strategy \"energy\" has a budget over all types";
                return Err(at(budget.span(), what.to_owned()));
            }
            policy.budget = Some(budget.get_ref().0);
        }
        policy.lock = file.lock;
        for pattern in &file.allow_clear {
            policy.allow_clear(&pattern.0)?;
        }
        policy.default = file.default.map(|table| table.coefficient.0);
        for (op_type, table) in file.op {
            policy
                .set_coefficient(op_type.get_ref(), table.coefficient.0)
                .map_err(|error| at(op_type.span(), error.to_string()))?;
        }
        for table in file.overrides {
            let span = table.span();
            let Exception {
                node,
                initializer,
                coefficient,
            } = table.into_inner();
            let (target, pattern) = match (node, initializer) {
                (Some(pattern), None) => (Target::Node, pattern),
                (None, Some(pattern)) => (Target::Initializer, pattern),
                _ => {
                    let what = "an override names either a node or an initializer".to_owned();
                    return Err(at(span, what));
                }
            };
            policy
                .overrides
                .push(Override::new(target, &pattern.0, coefficient.0)?);
        }
        set_tiers(&mut policy, file.tiers, file.mode, at)?;
        policy.require = file.require;
        Ok(policy)
    }
}

fn set_tiers(
    policy: &mut Policy,
    tiers: Vec<Spanned<Tier>>,
    modes: BTreeMap<Spanned<String>, Mode>,
    at: impl Fn(std::ops::Range<usize>, String) -> Error,
) -> Result<(), Error> {
    let first = tiers.first().map(Spanned::span);
    if let Some(first) = first {
        let tiers = tiers.into_iter().map(Spanned::into_inner).collect();
        policy
            .set_tiers(tiers)
            .map_err(|error| at(first, error.to_string()))?;
    }
    for (op_type, mode) in modes {
        if policy.tiers.is_empty() {
            let what = "a mode is for models with tiers, and the policy has none".to_owned();
            return Err(at(op_type.span(), what));
        }
        let name = op_type.get_ref().as_str();
        policy
            .set_mode((name != "default").then_some(name), mode)
            .map_err(|error| at(op_type.span(), error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::Demand;
    use super::*;

    #[test]
    fn a_whole_policy_is_read() {
        let policy = Policy::parse(
            r#"
            preset = "strong"
            strategy = "spread"
            [default]
            coefficient = 0.2
            [op.Conv]
            coefficient = 1
            [op."com.microsoft.MatMulNBits"]
            coefficient = 0.3
            [[override]]
            node = "/head/*"
            coefficient = 1.0
            [[override]]
            initializer = "*.bias"
            coefficient = 0.0
            [require]
            settings = "error"
            min_share = 0.1
            "#,
        )
        .unwrap();
        assert_eq!(policy.coefficient("", "Conv"), 1.0);
        assert_eq!(policy.coefficient("com.microsoft", "MatMulNBits"), 0.3);
        assert_eq!(policy.coefficient("", "MatMul"), 0.2);
        assert_eq!(policy.strategy(), Strategy::Spread);
        assert_eq!(policy.overridden(Target::Node, "/head/fc"), Some(1.0));
        assert_eq!(policy.overridden(Target::Initializer, "fc.bias"), Some(0.0));
        let require = policy.require();
        assert_eq!(
            (require.settings, require.unknown_op),
            (Demand::Error, Demand::Report)
        );
        assert_eq!(require.min_share, 0.1);
    }

    #[test]
    fn an_empty_policy_is_full() {
        let policy = Policy::parse("").unwrap();
        assert_eq!(policy.coefficient("", "Conv"), 1.0);
        assert_eq!(policy.strategy(), Strategy::Energy);
    }

    #[test]
    fn a_lock_is_demanded_refused_or_not_spoken_of() {
        let lock = |toml| Policy::parse(toml).unwrap().lock();
        assert_eq!(lock(""), None);
        assert_eq!(lock("lock = true"), Some(true));
        assert_eq!(lock("lock = false"), Some(false));
    }

    #[test]
    fn errors_say_what_and_where() {
        #[rustfmt::skip]
        let cases = [
            ("preset = \"medium\"", "line 1", "expected one of `light`, `balanced`, `strong`, `full`"),
            ("[op.Conv]\ncoefficient = 1.5", "line 2, column 15", "1.5 is not from 0 to 1"),
            ("[op.Conv]\ncoefficient = nan", "line 2", "NaN is not from 0 to 1"),
            ("[op.Conv]\ncoefficient = -1", "line 2", "-1 is not from 0 to 1"),
            ("[op.Conv]\n", "line 1", "missing field `coefficient`"),
            ("\n  [op.Cnov]\n  coefficient = 0.5", "line 2, column 7", "\"Cnov\" (did you mean \"Conv\"?)"),
            ("[op.Relu]\ncoefficient = 0.5", "line 1", "\"Relu\""),
            ("[default]\ncoefficent = 0.5", "line 2", "unknown field `coefficent`"),
            ("stratgy = \"spread\"", "line 1", "unknown field `stratgy`"),
            ("strategy = \"head\"", "line 1", "unknown variant `head`"),
            ("strategy = \"spread\"\nunit = 65", "line 2, column 8", "expected 64, 128"),
            ("budget = 0.1\nstrategy = \"spread\"", "line 1, column 10", "only strategy \"energy\""),
            ("[[override]]\ncoefficient = 0.5", "line 1", "either a node or an initializer"),
            ("[[override]]\nnode = \"a\"\ninitializer = \"b\"\ncoefficient = 1", "line 1", "either"),
            ("[[override]]\nnode = \"a[\"\ncoefficient = 1", "line 2", "unclosed character class"),
            ("[require]\nsettings = \"ignore\"", "line 2", "unknown variant `ignore`"),
            ("[require]\nunpatchable = \"error\"", "line 2", "unknown field `unpatchable`"),
            ("allow_clear = [\"a[\"]", "line 1", "unclosed character class"),
            ("[require]\nmin_share = 2.0", "line 2", "2 is not from 0 to 1"),
            ("lock = \"no\"", "line 1, column 8", "expected a boolean"),
            ("preset = ", "line 1", ""),
        ];
        for (toml, place, what) in cases {
            let Err(Error::PolicyText { message }) = Policy::parse(toml) else {
                panic!("{toml:?} was read");
            };
            assert!(message.contains(place), "{toml:?}: {message}");
            assert!(message.contains(what), "{toml:?}: {message}");
        }
    }
}
