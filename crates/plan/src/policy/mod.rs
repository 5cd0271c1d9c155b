//! Policies: coefficients by operator type, exceptions by name, demands.

mod overrides;
mod preset;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::GlobMatcher;
pub use overrides::{Override, Target};
use overrides::{glob, share};
pub use preset::Preset;
use serde::Deserialize;

use crate::error::Error;
use crate::position::Strategy;
use crate::ranking::Ranking;
use crate::rules::{self, Class, Rule};
use crate::similar::similar;
use crate::subsequence::{DEFAULT_UNIT_BYTES, RECURRENT_UNIT_BYTES, UNIT_BYTES};
use crate::tiers::{self, Mode, Tier};

/// Says how much of each operator's weights to encrypt, and which part.
#[derive(Clone, Debug)]
pub struct Policy {
    preset: Preset,
    /// Replaces the preset's coefficients, if set.
    default: Option<f64>,
    /// By operator type.
    coefficients: BTreeMap<(&'static str, &'static str), f64>,
    overrides: Vec<Override>,
    strategy: Strategy,
    /// Bytes of a subsequence that is chosen by score.
    unit_bytes: Option<u64>,
    /// Share of all bytes, instead of the sum of the types' budgets.
    budget: Option<f64>,
    /// Scores to use instead of energies.
    ranking: Option<Arc<Ranking>>,
    /// The least first; empty for a model of one edition.
    tiers: Vec<Tier>,
    default_mode: Mode,
    /// By operator type.
    modes: BTreeMap<(&'static str, &'static str), Mode>,
    /// Whether runtimes refuse the model without the key; `None` if the policy does not say.
    lock: Option<bool>,
    /// Names of what may stay in clear though the policy asks for it.
    allow_clear: Vec<GlobMatcher>,
    require: Require,
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
    #[serde(deserialize_with = "overrides::read_share")]
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
            default: None,
            coefficients: BTreeMap::new(),
            overrides: Vec::new(),
            strategy: Strategy::default(),
            unit_bytes: None,
            budget: None,
            ranking: None,
            tiers: Vec::new(),
            default_mode: Mode::default(),
            modes: BTreeMap::new(),
            lock: None,
            allow_clear: Vec::new(),
            require: Require::default(),
        }
    }

    /// Sets the coefficient of an operator type, such as `Conv` or `com.microsoft.QAttention`.
    pub fn set_coefficient(&mut self, op_type: &str, coefficient: f64) -> Result<(), Error> {
        let of = operator_type(op_type)?;
        self.coefficients.insert(of, share(coefficient)?);
        Ok(())
    }

    /// Sets the tiers, which make editions of one file: each opens its share of the encrypted
    /// bytes, the most important ones first. The first tier is the least; the last opens
    /// everything.
    pub fn set_tiers(&mut self, tiers: Vec<Tier>) -> Result<(), Error> {
        if self.strategy != Strategy::Energy {
            let message = "tiers need strategy \"energy\"".to_owned();
            return Err(Error::Tiers { message });
        }
        tiers::check(&tiers)?;
        self.tiers = tiers;
        Ok(())
    }

    /// Sets how weights of an operator type are encrypted for tiers above the first. `None` sets it
    /// for every type without a mode of its own.
    pub fn set_mode(&mut self, op_type: Option<&str>, mode: Mode) -> Result<(), Error> {
        match op_type {
            None => self.default_mode = mode,
            Some(op_type) => {
                self.modes.insert(operator_type(op_type)?, mode);
            }
        }
        Ok(())
    }

    /// Sets the coefficient of every operator type without one of its own, instead of the preset's.
    pub fn set_default(&mut self, coefficient: f64) -> Result<(), Error> {
        self.default = Some(share(coefficient)?);
        Ok(())
    }

    /// Adds an exception; if several match, the last one wins.
    pub fn add_override(&mut self, exception: Override) {
        self.overrides.push(exception);
    }

    /// Sets the strategy, which decides which subsequences are encrypted.
    pub fn set_strategy(&mut self, strategy: Strategy) {
        self.strategy = strategy;
    }

    /// Sets the bytes of a subsequence that is chosen by score: a power of two from 64 to 1024.
    pub fn set_unit_bytes(&mut self, unit_bytes: u64) -> Result<(), Error> {
        if !UNIT_BYTES.contains(&unit_bytes) || !unit_bytes.is_power_of_two() {
            return Err(Error::Unit { bytes: unit_bytes });
        }
        self.unit_bytes = Some(unit_bytes);
        Ok(())
    }

    /// Sets the share of all weights' bytes to encrypt, 0 to 1, chosen by score over all types;
    /// coefficients become factors of the scores.
    pub fn set_budget(&mut self, budget: f64) -> Result<(), Error> {
        self.budget = Some(share(budget)?);
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

    /// Sets the requirements for a plan.
    pub fn set_require(&mut self, require: Require) -> Result<(), Error> {
        share(require.min_share)?;
        self.require = require;
        Ok(())
    }

    /// Accepts that what `pattern` names stays in clear if it cannot be encrypted where it lies:
    /// a tensor by its name or protobuf path, an attribute by its name or path, another part of the
    /// model by its path, an external data file by its location.
    pub fn allow_clear(&mut self, pattern: &str) -> Result<(), Error> {
        self.allow_clear.push(glob(pattern)?);
        Ok(())
    }

    /// Returns whether the policy accepts that something with one of these names stays in clear.
    pub(crate) fn allows_clear(&self, names: &[&str]) -> bool {
        let mut patterns = self.allow_clear.iter();
        patterns.any(|pattern| names.iter().any(|name| pattern.is_match(name)))
    }

    /// Returns the patterns of [`Policy::allow_clear`].
    pub(crate) fn allowed_clear(&self) -> &[GlobMatcher] {
        &self.allow_clear
    }

    /// Returns whether everything is encrypted that the graph's shapes do not need: the preset
    /// `full`, and neither a coefficient for all types nor a budget.
    pub fn takes_everything(&self) -> bool {
        self.preset == Preset::Full && self.default.is_none() && self.budget.is_none()
    }

    /// Returns whether the policy asks for any weight.
    pub(crate) fn asks_for_any(&self) -> bool {
        let named = self.overrides.iter().map(|named| named.coefficient);
        let mut shares = (self.coefficients.values().copied()).chain(named);
        self.default != Some(0.0) && self.budget != Some(0.0) || shares.any(|share| share > 0.0)
    }

    /// Lets entries of the policy match nothing, for example in a policy for models of many kinds.
    pub fn allow_unmatched(&mut self) {
        self.require.unmatched = Demand::Report;
    }

    /// Returns the coefficient of an operator type; `domain` is empty for `ai.onnx`.
    pub fn coefficient(&self, domain: &str, op_type: &str) -> f64 {
        let rule = rules::find(domain, op_type);
        self.named(rule)
            .unwrap_or_else(|| self.preset.coefficient(rule.and_then(Rule::class)))
    }

    /// Returns whether the coefficient of an operator type is the preset's, which may be raised to
    /// 1 for single operators.
    pub(crate) fn is_presets(&self, domain: &str, op_type: &str) -> bool {
        self.named(rules::find(domain, op_type)).is_none()
    }

    fn named(&self, rule: Option<&Rule>) -> Option<f64> {
        let of_type = rule.and_then(|rule| self.coefficients.get(&(rule.domain, rule.op_type)));
        of_type.copied().or(self.default)
    }

    /// Returns whether coefficients set the shares and scores choose the parts.
    fn chooses_shares(&self) -> bool {
        self.budget.is_none() && self.strategy == Strategy::Energy
    }

    /// Returns the strategy, which decides which subsequences are encrypted.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Returns the bytes of a subsequence that is chosen by score, for an operator type; models of
    /// more than 1 GiB get larger ones. `domain` is empty for `ai.onnx`.
    ///
    /// Recurrent layers get [`RECURRENT_UNIT_BYTES`] unless the policy says otherwise, because a
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
        self.unit_bytes
            .unwrap_or(DEFAULT_UNIT_BYTES.min(RECURRENT_UNIT_BYTES))
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
        let rule = rules::find(domain, op_type);
        let of_type = rule.and_then(|rule| self.modes.get(&(rule.domain, rule.op_type)));
        of_type.copied().unwrap_or(self.default_mode)
    }

    /// Returns the share of all weights' bytes to encrypt, if the policy sets one.
    pub fn budget(&self) -> Option<f64> {
        self.budget
    }

    /// Returns the largest model, in bytes of weights, that is encrypted whole as far as the
    /// preset's coefficients apply. Returns 0 with a budget, and if nothing is chosen by score.
    pub(crate) fn small_model_bytes(&self) -> u64 {
        if self.chooses_shares() {
            self.preset.small_model_bytes()
        } else {
            0
        }
    }

    /// Returns whether runtimes refuse the protected model without the key, or `None` if the policy
    /// does not say.
    ///
    /// Protecting reads `None` as `true`; checking a model against the policy accepts either.
    pub fn lock(&self) -> Option<bool> {
        self.lock
    }

    /// Requirements for a plan.
    pub fn require(&self) -> Require {
        self.require
    }

    /// Returns the operator types with a coefficient of their own, as domain and type.
    pub(crate) fn operator_types(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.coefficients.keys().copied()
    }

    pub(crate) fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// Returns the coefficient that an exception gives to the node or tensor `name`.
    pub(crate) fn overridden(&self, target: Target, name: &str) -> Option<f64> {
        let mut last_first = self.overrides.iter().rev();
        last_first
            .find(|exception| exception.target == target && exception.matches(name))
            .map(|exception| exception.coefficient)
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::preset(Preset::default())
    }
}

/// Returns the domain and type of an operator with weights.
fn operator_type(op_type: &str) -> Result<(&'static str, &'static str), Error> {
    let rule = rules::find_qualified(op_type).filter(|rule| rule.class().is_some());
    let rule = rule.ok_or_else(|| Error::OperatorType {
        op_type: op_type.to_owned(),
        similar: similar(op_type, rules::with_weights().map(rules::Rule::name)),
    })?;
    Ok((rule.domain, rule.op_type))
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
        policy.set_default(0.4).unwrap();
        policy.set_coefficient("ai.onnx.MatMul", 0.7).unwrap();
        assert_eq!(policy.coefficient("", "Conv"), 0.4);
        assert_eq!(policy.coefficient("", "MatMul"), 0.7);
        assert_eq!(policy.coefficient("my.domain", "Mystery"), 0.4);
    }

    #[test]
    fn the_last_matching_override_holds() {
        let mut policy = Policy::default();
        policy.add_override(Override::new(Target::Node, "/encoder/*", 0.5).unwrap());
        policy.add_override(Override::new(Target::Node, "*/head[01]/*", 0.0).unwrap());
        policy.add_override(Override::new(Target::Initializer, "{a,b}.weight", 1.0).unwrap());
        let node = |name| policy.overridden(Target::Node, name);
        assert_eq!(node("/encoder/layer0/MatMul"), Some(0.5));
        assert_eq!(node("/encoder/head1/MatMul"), Some(0.0));
        assert_eq!(node("/decoder/MatMul"), None);
        assert_eq!(
            policy.overridden(Target::Initializer, "b.weight"),
            Some(1.0)
        );
        assert_eq!(policy.overridden(Target::Node, "b.weight"), None);
    }

    #[test]
    fn what_is_no_share_or_no_operator_is_refused() {
        let mut policy = Policy::default();
        for value in [-0.1, 1.01, f64::NAN, f64::INFINITY] {
            let refused = policy.set_coefficient("Conv", value);
            assert!(matches!(refused, Err(Error::Coefficient { .. })), "{value}");
        }
        for op_type in ["Cnov", "Relu", "Reshape", "com.microsoft.Conv"] {
            let refused = policy.set_coefficient(op_type, 0.5);
            assert!(
                matches!(refused, Err(Error::OperatorType { .. })),
                "{op_type}"
            );
        }
        assert!(matches!(
            Override::new(Target::Node, "a[", 0.5),
            Err(Error::Pattern { .. })
        ));
    }
}
