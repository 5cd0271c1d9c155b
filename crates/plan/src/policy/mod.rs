//! Policies: coefficients by operator type, exceptions by name, demands.

mod preset;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use preset::Preset;
use serde::Deserialize;
use toml::de::DeTable;
use values::{ModeKey, OfType, read_budget, read_share, read_unit, share};
pub(crate) use values::{OpType, Override, Pattern};

use crate::error::Error;
use crate::position::Strategy;
use crate::ranking::Ranking;
use crate::rules::{self, Class, Rule};
use crate::subsequence::{DEFAULT_UNIT_BYTES, RECURRENT_UNIT_BYTES};
use crate::tiers::{self, Mode, Tier};

/// Says how much of each operator's weights to encrypt, and which part: `docs/POLICY.md` describes
/// its fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    preset: Preset,
    pub(crate) strategy: Strategy,
    #[serde(rename = "unit", deserialize_with = "read_unit")]
    unit_bytes: Option<u64>,
    #[serde(deserialize_with = "read_budget")]
    pub(crate) budget: Option<f64>,
    /// Whether runtimes refuse the model without the key; `None` if the policy does not say.
    lock: Option<bool>,
    pub(crate) allow_clear: Vec<Pattern>,
    default: Option<OfType>,
    #[serde(rename = "op")]
    pub(crate) coefficients: BTreeMap<OpType, OfType>,
    #[serde(rename = "override")]
    pub(crate) overrides: Vec<Override>,
    #[serde(rename = "tier", deserialize_with = "tiers::read")]
    tiers: Vec<Tier>,
    #[serde(rename = "mode")]
    modes: BTreeMap<ModeKey, Mode>,
    require: Require,
    #[serde(skip)]
    ranking: Option<Arc<Ranking>>,
}

/// What to do about weights that cannot be encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Demand {
    /// Name them in the plan.
    #[default]
    Report,
    /// Count them as violations.
    Error,
}

/// Requirements for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Require {
    /// For tensors that look like weights of operators without a rule.
    pub unknown_op: Demand,
    /// For text and long lists of numbers in attributes of nodes, and for tensors of strings.
    pub settings: Demand,
    /// The least share of the bytes of all tensors to encrypt, 0 to 1.
    #[serde(deserialize_with = "read_share")]
    pub min_share: f64,
    /// For entries of the policy (operator types and overrides) that match nothing in the model. An
    /// error by default, because such entries are usually mistakes.
    pub unmatched: Demand,
}

impl Default for Require {
    fn default() -> Require {
        Require {
            unknown_op: Demand::Report,
            settings: Demand::Report,
            min_share: 0.0,
            unmatched: Demand::Error,
        }
    }
}

impl Policy {
    /// Returns the policy of a preset.
    pub fn preset(preset: Preset) -> Policy {
        Policy {
            preset,
            ..Policy::default()
        }
    }

    /// Reads a policy from TOML, as `docs/POLICY.md` describes it.
    pub fn parse(toml: &str) -> Result<Policy, Error> {
        let invalid = |what: String| Error::Policy(format!("invalid policy: {what}"));
        let policy: Policy = toml::from_str(toml)
            .map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
        let at = |key: &str, index: usize, what: &str| {
            let (line, column) = place(toml, key, index).unwrap_or((1, 1));
            Err(invalid(format!("{what} at line {line}, column {column}")))
        };
        if policy.budget.is_some() && policy.strategy != Strategy::Energy {
            let what = "only strategy \"energy\" has a budget over all types";
            return at("budget", 0, what);
        }
        let names_one = |of: &Override| of.node.is_some() != of.initializer.is_some();
        if let Some(index) = policy.overrides.iter().position(|of| !names_one(of)) {
            let what = "an override names either a node or an initializer";
            return at("override", index, what);
        }
        if !policy.tiers.is_empty() && policy.strategy != Strategy::Energy {
            return at("tier", 0, TIERS_NEED_ENERGY);
        }
        if policy.tiers.is_empty() && !policy.modes.is_empty() {
            let what = "a mode is for models with tiers, and the policy has none";
            return at("mode", 0, what);
        }
        Ok(policy)
    }

    /// Sets the coefficient of an operator type, such as `Conv` or `com.microsoft.QAttention`.
    pub fn set_coefficient(&mut self, op_type: &str, coefficient: f64) -> Result<(), Error> {
        let of_type = OfType {
            coefficient: share(coefficient)?,
        };
        let op_type = OpType::find(op_type)?;
        self.coefficients.insert(op_type, of_type);
        Ok(())
    }

    /// Sets the tiers, which make editions of one file: each opens its share of the encrypted
    /// bytes, the most important ones first. The first tier is the least; the last opens
    /// everything.
    pub fn set_tiers(&mut self, tiers: Vec<Tier>) -> Result<(), Error> {
        if self.strategy != Strategy::Energy {
            return Err(Error::Policy(TIERS_NEED_ENERGY.to_owned()));
        }
        self.tiers = tiers::check(tiers)?;
        Ok(())
    }

    /// Chooses by the scores of `ranking`, in its units, instead of energies.
    pub fn set_ranking(&mut self, ranking: Ranking) {
        self.strategy = Strategy::Energy;
        self.unit_bytes = Some(ranking.unit_bytes());
        self.ranking = Some(Arc::new(ranking));
    }

    /// Sets whether runtimes such as ONNX Runtime refuse the protected model without the key.
    pub fn set_lock(&mut self, lock: bool) {
        self.lock = Some(lock);
    }

    /// Accepts that what `pattern` names stays in clear if it cannot be encrypted where it lies:
    /// a tensor by its name or protobuf path, an attribute by its name or path, another part of the
    /// model by its path, an external data file by its location.
    pub fn allow_clear(&mut self, pattern: &str) -> Result<(), Error> {
        self.allow_clear
            .push(Pattern::try_from(pattern.to_owned())?);
        Ok(())
    }

    /// Returns whether the policy accepts that something with one of these names stays in clear.
    pub(crate) fn allows_clear(&self, names: &[&str]) -> bool {
        let mut patterns = self.allow_clear.iter();
        patterns.any(|pattern| names.iter().any(|name| pattern.matches(name)))
    }

    /// Returns whether everything is encrypted that the graph's shapes do not need: the preset
    /// `full`, and neither a coefficient for all types nor a budget.
    pub fn takes_everything(&self) -> bool {
        self.preset == Preset::Full && self.default.is_none() && self.budget.is_none()
    }

    /// Returns whether the policy asks for any weight.
    pub(crate) fn asks_for_any(&self) -> bool {
        let named = self.overrides.iter().map(|named| named.coefficient);
        let of_types = self.coefficients.values().map(|of| of.coefficient);
        let is_none =
            self.budget == Some(0.0) || self.default.is_some_and(|of| of.coefficient == 0.0);
        !is_none || of_types.chain(named).any(|share| share > 0.0)
    }

    /// Lets entries of the policy match nothing, for example in a policy for models of many kinds.
    pub fn allow_unmatched(&mut self) {
        self.require.unmatched = Demand::Report;
    }

    /// Returns the coefficient of an operator type; `domain` is empty for `ai.onnx`.
    pub fn coefficient(&self, domain: &str, op_type: &str) -> f64 {
        let class = || rules::find(domain, op_type).and_then(Rule::class);
        self.own_coefficient(domain, op_type)
            .unwrap_or_else(|| self.preset.coefficient(class()))
    }

    /// Returns the policy's own coefficient of an operator type; `None` if it is the preset's, which
    /// may be raised to 1 for single operators.
    pub(crate) fn own_coefficient(&self, domain: &str, op_type: &str) -> Option<f64> {
        let of_type = key(domain, op_type).and_then(|key| self.coefficients.get(&key));
        Some(of_type.or(self.default.as_ref())?.coefficient)
    }

    /// Returns the bytes of a subsequence that is chosen by score, for an operator type; models of
    /// more than 1 GiB get larger ones. `domain` is empty for `ai.onnx`.
    ///
    /// Recurrent layers get 1024 bytes unless the policy says otherwise, because a
    /// gate with some visible weights is easier to fill in than a hidden one.
    pub fn unit_bytes(&self, domain: &str, op_type: &str) -> u64 {
        let class = rules::find(domain, op_type).and_then(Rule::class);
        self.unit_bytes.unwrap_or(match class {
            Some(Class::Recurrent) => RECURRENT_UNIT_BYTES,
            _ => DEFAULT_UNIT_BYTES,
        })
    }

    /// Returns the smallest [`Policy::unit_bytes`] of any operator type.
    pub(crate) fn least_unit_bytes(&self) -> u64 {
        self.unit_bytes.unwrap_or(DEFAULT_UNIT_BYTES)
    }

    /// Returns the scores to choose by instead of energies.
    pub fn ranking(&self) -> Option<&Ranking> {
        self.ranking.as_deref()
    }

    /// Returns the tiers, the least first; empty for a model of one edition.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Returns how weights of an operator type are encrypted for tiers above the first, as far as
    /// their element type allows.
    pub fn mode(&self, domain: &str, op_type: &str) -> Mode {
        let own = key(domain, op_type).and_then(|key| self.modes.get(&ModeKey(Some(key))));
        let mode = own.or_else(|| self.modes.get(&ModeKey(None)));
        mode.copied().unwrap_or_default()
    }

    /// Returns whether the preset's coefficients take a small model whole: if they say how much, and
    /// scores say which part.
    pub(crate) fn takes_small_models(&self) -> bool {
        self.budget.is_none() && self.strategy == Strategy::Energy
    }

    /// Returns whether runtimes refuse the protected model without the key, or `None` if the policy
    /// does not say.
    ///
    /// Protecting reads `None` as `true`; checking a model against the policy accepts either.
    pub fn lock(&self) -> Option<bool> {
        self.lock
    }

    pub fn require(&self) -> Require {
        self.require
    }

    /// Returns the coefficient that an exception gives to the node `name`; the last one wins.
    pub(crate) fn of_node(&self, name: &str) -> Option<f64> {
        self.overridden(|of| of.node.as_ref(), name)
    }

    /// Returns the coefficient that an exception gives to the tensor `name`.
    pub(crate) fn of_tensor(&self, name: &str) -> Option<f64> {
        self.overridden(|of| of.initializer.as_ref(), name)
    }

    fn overridden(
        &self,
        pattern: impl Fn(&Override) -> Option<&Pattern>,
        name: &str,
    ) -> Option<f64> {
        let mut last_first = self.overrides.iter().rev();
        let found = last_first.find(|of| pattern(of).is_some_and(|pattern| pattern.matches(name)));
        found.map(|of| of.coefficient)
    }
}

fn key(domain: &str, op_type: &str) -> Option<OpType> {
    rules::find(domain, op_type).map(|rule| OpType(rule.domain, rule.op_type))
}

const TIERS_NEED_ENERGY: &str = "tiers need strategy \"energy\"";

/// Returns line and column of the value of `key`, or of a part of it.
fn place(toml: &str, key: &str, index: usize) -> Option<(usize, usize)> {
    let table = DeTable::parse(toml).ok()?;
    let value = table.get_ref().get(key)?;
    let part = value.get_ref().get(index).unwrap_or(value);
    let before = toml.get(..part.span().start)?;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    Some((before.matches('\n').count() + 1, column))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_is_named_goes_before_default_before_preset() {
        let mut policy = Policy::preset(Preset::Balanced);
        assert_eq!(policy.coefficient("", "Conv"), 0.155);
        assert_eq!(policy.coefficient("", "LSTM"), 0.38);
        assert_eq!(policy.coefficient("", "LayerNormalization"), 1.0);
        assert_eq!(policy.coefficient("my.domain", "Mystery"), 0.155);
        policy.set_coefficient("ai.onnx.MatMul", 0.7).unwrap();
        assert_eq!(policy.coefficient("", "MatMul"), 0.7);
        let text =
            "preset = \"balanced\"\n[default]\ncoefficient = 0.4\n[op.MatMul]\ncoefficient = 0.7";
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.coefficient("", "Conv"), 0.4);
        assert_eq!(policy.coefficient("", "MatMul"), 0.7);
        assert_eq!(policy.coefficient("my.domain", "Mystery"), 0.4);
    }

    #[test]
    fn the_last_matching_override_holds() {
        let text = "[[override]]\nnode = \"/encoder/*\"\ncoefficient = 0.5\n\
                    [[override]]\nnode = \"*/head[01]/*\"\ncoefficient = 0.0\n\
                    [[override]]\ninitializer = \"{a,b}.weight\"\ncoefficient = 1.0\n";
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.of_node("/encoder/layer0/MatMul"), Some(0.5));
        assert_eq!(policy.of_node("/encoder/head1/MatMul"), Some(0.0));
        assert_eq!(policy.of_node("/decoder/MatMul"), None);
        assert_eq!(policy.of_tensor("b.weight"), Some(1.0));
        assert_eq!(policy.of_node("b.weight"), None);
    }

    #[test]
    fn what_is_no_share_or_no_operator_is_refused() {
        let mut policy = Policy::default();
        for value in [-0.1, 1.01, f64::NAN, f64::INFINITY] {
            let refused = policy.set_coefficient("Conv", value).unwrap_err();
            let told = format!("coefficient {value} is not from 0 to 1");
            assert_eq!(refused.to_string(), told);
        }
        for op_type in ["Cnov", "Relu", "Reshape", "com.microsoft.Conv"] {
            let refused = policy.set_coefficient(op_type, 0.5).unwrap_err();
            let told = "no operator type with weights is called";
            assert!(refused.to_string().contains(told), "{op_type}");
        }
        assert!(policy.allow_clear("a[").is_err());
    }

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
        assert_eq!(policy.strategy, Strategy::Spread);
        assert_eq!(policy.of_node("/head/fc"), Some(1.0));
        assert_eq!(policy.of_tensor("fc.bias"), Some(0.0));
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
        assert_eq!(policy.strategy, Strategy::Energy);
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
            ("preset = \"medium\"", "line 1", "expected one of `balanced`, `strong`, `full`"),
            ("preset = \"light\"", "line 1", "unknown variant `light`"),
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
            ("[[override]]\nnode = \"a\"\ncoefficient = 1\n[[override]]\ncoefficient = 1", "line 4, column 1", "either"),
            ("preset = ", "line 1", ""),
        ];
        for (toml, place, what) in cases {
            let Err(Error::Policy(message)) = Policy::parse(toml) else {
                panic!("{toml:?} was read");
            };
            assert!(message.contains(place), "{toml:?}: {message}");
            assert!(message.contains(what), "{toml:?}: {message}");
        }
    }
}
