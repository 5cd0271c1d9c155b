//! The demands of a policy that a plan does not meet.

use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::{LongSetting, Model, Tensor, TensorId};

use crate::classify::{Reason, is_opaque};
use crate::plan::Plan;
use crate::policy::{Demand, Policy};
use crate::rules;
use crate::unmatched::unmatched;

impl Plan {
    /// Returns the demands of the policy that this plan of `model` does not meet, in words. Whether
    /// anything at all is encrypted, `encrypts` tells.
    pub fn violations(&self, model: &Model<'_>, policy: &Policy, encrypts: bool) -> Vec<String> {
        let require = policy.require();
        let mut violations = Vec::new();
        for clear in &self.clear {
            let tensor = model.tensors.get(clear.tensor.index());
            violations.extend(tensor.and_then(|tensor| of_clear(tensor, &clear.reason, policy)));
        }
        let is_opaque = is_opaque(model);
        let settings = model.long_settings.iter();
        let settings = settings.filter(|of| !policy.allows_clear(&[of.attribute, &of.path]));
        let (opaque, plain): (Vec<_>, Vec<_>) = settings.partition(|of| is_opaque(of));
        if policy.asks_for_any() {
            violations.extend(self.in_clear(model, policy, &opaque));
            if !encrypts && violations.is_empty() && policy.allow_clear.is_empty() {
                violations.push("nothing is encrypted".to_owned());
            }
        }
        if require.settings == Demand::Error {
            violations.extend(plain.into_iter().map(|setting| {
                let (attribute, path) = (excerpt(setting.attribute), excerpt(&setting.path));
                format!("attribute {attribute:?} ({path}) stays in clear")
            }));
        }
        if require.unmatched == Demand::Error {
            let unmatched = unmatched(model, policy, &self.gaps).into_iter();
            violations.extend(unmatched.map(|(entry, similar)| {
                let meant = similar.map(|similar| format!(": did you mean {similar:?}?"));
                let meant = meant.unwrap_or_default();
                format!("{entry} matches nothing in the model{meant}")
            }));
            violations.extend(self.without_effect(model, policy));
        }
        let (share, min_share) = (self.share(), require.min_share);
        if share < min_share {
            violations.push(format!(
                "{:.1} % of all tensors' bytes are encrypted, at least {:.1} % are demanded",
                share * 100.0,
                min_share * 100.0
            ));
        }
        violations
    }

    /// Lists the parts of the model, other than tensors, that may hold weights and stay in clear.
    fn in_clear(
        &self,
        model: &Model<'_>,
        policy: &Policy,
        opaque: &[&LongSetting<'_>],
    ) -> Vec<String> {
        let parts = model.passed_over.iter();
        let parts = parts.filter(|part| !policy.allows_clear(&[&part.path]));
        let parts = parts.map(|part| format!("{} may hold weights, and stays in clear", part.path));
        let opaque = opaque.iter().map(|setting| {
            let (attribute, path) = (excerpt(setting.attribute), excerpt(&setting.path));
            let bytes = setting.bytes;
            format!(
                "attribute {attribute:?} ({path}) has {bytes} bytes, may hold weights, and stays in clear"
            )
        });
        let gaps = self.gaps.iter().filter_map(|gap| {
            let now = model.location(gap.file).unwrap_or_default();
            let (location, span) = (excerpt(&gap.location), gap.span);
            (!policy.allows_clear(&[&gap.location, now])).then(|| {
                format!(
                    "{} bytes of {location:?} from offset {} on belong to no tensor, and stay in clear",
                    span.len, span.start
                )
            })
        });
        parts.chain(opaque).chain(gaps).collect()
    }

    /// Lists the overrides above 0 that encrypt nothing of the tensors they name, or of those that
    /// the nodes read that they name.
    fn without_effect(&self, model: &Model<'_>, policy: &Policy) -> Vec<String> {
        let named = policy.overrides.iter();
        let named = named.filter(|named| named.coefficient > 0.0);
        let found = named.filter_map(|named| {
            let is_of = |tensor: TensorId| {
                let is_named = named.initializer.as_ref().is_some_and(|pattern| {
                    let tensor = model.tensors.get(tensor.index());
                    tensor.is_some_and(|tensor| pattern.matches(tensor.name))
                });
                let is_read = named.node.as_ref().is_some_and(|pattern| {
                    self.consumers(tensor).iter().any(|node| {
                        let node = model.nodes.get(node.index());
                        node.is_some_and(|node| pattern.matches(node.name))
                    })
                });
                is_named || is_read
            };
            let mut encrypted = self.tensors.iter().filter(|plan| plan.encrypted_bytes > 0);
            if encrypted.any(|plan| is_of(plan.tensor)) {
                return None;
            }
            let clear = self.clear.iter().find(|clear| {
                // A later override may have set the coefficient to 0.
                is_of(clear.tensor) && clear.reason != Reason::ZeroCoefficient
            })?;
            Some(format!("{named} encrypts nothing: {}", clear.reason))
        });
        found.collect()
    }
}

/// Returns the violation if a tensor may not stay in clear for `reason`.
fn of_clear(tensor: &Tensor<'_>, reason: &Reason, policy: &Policy) -> Option<String> {
    let require = policy.require();
    let is_demanded = match reason {
        Reason::Unpatchable(_) => policy.asks_for_any(),
        Reason::Strings => require.settings == Demand::Error,
        Reason::Unconsumed if !rules::may_be_learnt(tensor) => false,
        Reason::UnknownOperator { .. }
        | Reason::NoWeights { .. }
        | Reason::NotFollowed
        | Reason::Unconsumed => require.unknown_op == Demand::Error,
        _ => false,
    };
    if !is_demanded || policy.allows_clear(&[tensor.name, &tensor.path]) {
        return None;
    }
    let (name, path) = (excerpt(tensor.name), excerpt(&tensor.path));
    let why = reason.to_string();
    let why = excerpt(&why);
    Some(match reason {
        Reason::Unpatchable(_) => {
            format!("tensor {name:?} ({path}) cannot be encrypted: {why}")
        }
        Reason::Strings => format!("the text of tensor {name:?} ({path}) stays in clear"),
        _ => format!("{name:?} ({path}) may be a weight: {why}"),
    })
}
