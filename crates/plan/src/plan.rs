//! The plan: the volume of every operator, and the subsequences to encrypt of every weight tensor.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::{Model, NodeId, TensorId};

use crate::classify::Reason;
use crate::lists::Lists;
use crate::policy::{Demand, Policy};
use crate::position::Run;
use crate::rules;
use crate::tiers::{Mode, TierRun};
use crate::unmatched::{Entry, unmatched};

/// The encrypted parts of a model, and the parts in clear.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Operator types with weights, in order of their first operator.
    pub types: Vec<TypePlan>,
    /// Operators that own weights, in file order.
    pub operators: Vec<OperatorPlan>,
    /// Weight tensors that can be encrypted, in file order.
    pub tensors: Vec<TensorPlan>,
    /// Every tensor that stays completely in clear, in file order.
    pub clear: Vec<Clear>,
    /// Tensors that share a budget and are chosen from by score. All others follow from the policy
    /// alone, whatever the weights are.
    pub pools: Vec<Pool>,
    /// Bytes of the weights that cannot be replaced in place.
    pub(crate) unpatchable_bytes: u64,
    /// The consumers of each tensor of the model.
    pub(crate) consumers: Lists<NodeId>,
}

/// Tensors that share a budget, spent on their subsequences with the highest scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Bytes to encrypt of all together; the encrypted bytes exceed it by less than a subsequence.
    pub budget_bytes: u64,
    /// The tensors, as indices into [`Plan::tensors`].
    pub tensors: Vec<usize>,
}

/// All operators of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypePlan {
    /// Qualified operator type: `Conv`, `com.microsoft.MatMulNBits`.
    pub op_type: Cow<'static, str>,
    /// The policy's coefficient for the type.
    pub coefficient: f64,
    /// Number of operators that own weights.
    pub n_operators: u64,
    /// Bytes of all their weights, `B_t`.
    pub bytes: u64,
    /// Bytes to encrypt: `coefficient * bytes`, without operators and tensors that overrides name.
    /// If all types share a budget, the part of it spent on this one.
    pub budget_bytes: u64,
    /// Bytes encrypted: the budget, rounded up to whole subsequences of each tensor.
    pub encrypted_bytes: u64,
}

/// One operator that owns weights.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorPlan {
    /// The node.
    pub node: NodeId,
    /// Qualified operator type.
    pub op_type: Cow<'static, str>,
    /// The coefficient of the operator: its type's, or an override's.
    pub coefficient: f64,
    /// Why the preset takes all weights of this operator, though it takes less of others of the
    /// type.
    pub whole: Option<Whole>,
    /// Bytes of its weight sequence, `L_o`.
    pub bytes: u64,
    /// Bytes apportioned to it, `V_o`; if chosen by score, the bytes that scores gave it.
    pub volume_bytes: u64,
    /// Bytes encrypted: the volume, rounded up to whole subsequences of each tensor.
    pub encrypted_bytes: u64,
}

/// Why a preset takes all of an operator's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Whole {
    /// The model is small: one subsequence is a large part of a tensor.
    SmallModel,
    /// A dense layer that reads the model's input: hiding a part does not hide what the layer
    /// learnt.
    ReadsInput,
    /// A dense layer that answers from the model's input after at most two convolutions: its
    /// weights are pictures of the classes.
    AnswersEarly,
}

impl Whole {
    /// Returns the reason in words.
    pub fn text(self) -> &'static str {
        match self {
            Whole::SmallModel => "the model is small",
            Whole::ReadsInput => "it reads the model's input",
            Whole::AnswersEarly => "it answers after few convolutions",
        }
    }
}

/// One weight tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorPlan {
    /// The tensor.
    pub tensor: TensorId,
    /// The operator that owns it, as an index into [`Plan::operators`].
    pub operator: usize,
    /// Length of its elements in bytes.
    pub bytes: u64,
    /// Elements in a subsequence; the last may be shorter.
    pub unit_elements: u64,
    /// Number of subsequences.
    pub n: u64,
    /// The encrypted subsequences; empty if the volume is 0.
    pub targets: Vec<Run>,
    /// Bytes in the targets.
    pub encrypted_bytes: u64,
    /// The tiers of the targets, in their order; empty in a plan without tiers.
    pub tiers: Vec<TierRun>,
    /// How the targets of tiers above the first are encrypted.
    pub mode: Mode,
    /// The bytes that replace an element a tier lacks; empty for zeros. For elements of less than 8
    /// bits, a byte of them.
    pub fill: Vec<u8>,
}

/// A tensor that stays completely in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clear {
    /// The tensor.
    pub tensor: TensorId,
    /// Length of its elements in bytes.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// A demand of the policy that a plan does not meet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Violation {
    /// A weight cannot be encrypted in place.
    Unpatchable {
        /// Name of the tensor.
        name: String,
        /// Its protobuf path.
        path: String,
        /// Why.
        reason: Reason,
    },
    /// A part of the file that may hold weights was not searched.
    PassedOver {
        /// Its protobuf path.
        path: String,
    },
    /// A tensor may be a weight, but only operators without a rule or operators that usually take
    /// no weights read it, or no operator reads it, or its way could not be followed.
    UnknownOperator {
        /// Name of the tensor.
        name: String,
        /// Its protobuf path.
        path: String,
        /// Why.
        reason: Reason,
    },
    /// The encrypted share is below the policy's least.
    Share {
        /// Encrypted share of all weights' bytes.
        share: f64,
        /// The share demanded.
        min_share: f64,
    },
    /// An entry of the policy matches nothing in the model.
    Unmatched {
        /// The entry.
        entry: Entry,
        /// A similar name in the model.
        similar: Option<String>,
    },
}

impl TensorPlan {
    /// Returns the encrypted elements, as ranges `(first, end)` in ascending order, each with its
    /// tier, or 1 without tiers. The last may reach past the tensor's end.
    pub fn tier_elements(&self) -> Vec<((u64, u64), u8)> {
        let mut tiers = self.tiers.iter().map(|run| (run.tier, run.take));
        let (mut tier, mut left) = tiers.next().unwrap_or((1, u64::MAX));
        let (mut at, mut found) = (0, Vec::new());
        for run in &self.targets {
            at += run.skip;
            let end = at + run.take;
            while at < end {
                if left == 0 {
                    let Some(next) = tiers.next() else { break };
                    (tier, left) = next;
                }
                let n = left.min(end - at);
                let elements = (at * self.unit_elements, (at + n) * self.unit_elements);
                found.push((elements, tier));
                (at, left) = (at + n, left - n);
            }
        }
        found
    }
}

impl Plan {
    /// Returns the nodes that read a tensor, each once, in file order.
    pub fn consumers(&self, tensor: TensorId) -> &[NodeId] {
        self.consumers.of(tensor.index() as u32)
    }

    /// Returns the bytes of all weights, including those that cannot be replaced in place.
    pub fn weight_bytes(&self) -> u64 {
        self.operators
            .iter()
            .map(|operator| operator.bytes)
            .sum::<u64>()
            + self.unpatchable_bytes
    }

    /// Returns the encrypted bytes.
    pub fn encrypted_bytes(&self) -> u64 {
        self.operators
            .iter()
            .map(|operator| operator.encrypted_bytes)
            .sum()
    }

    /// Returns the demands of the policy that this plan of `model` does not meet.
    pub fn violations(&self, model: &Model<'_>, policy: &Policy) -> Vec<Violation> {
        let require = policy.require();
        let tensors = self.clear.iter().filter_map(|clear| {
            let tensor = model.tensors.get(clear.tensor.index())?;
            let demand = match clear.reason {
                Reason::Unpatchable(_) => require.unpatchable,
                Reason::Unconsumed if !rules::may_be_learnt(tensor) => return None,
                Reason::UnknownOperator { .. }
                | Reason::NoWeights { .. }
                | Reason::NotFollowed
                | Reason::Unconsumed => require.unknown_op,
                _ => return None,
            };
            if demand != Demand::Error {
                return None;
            }
            let (name, path) = (tensor.name.to_owned(), tensor.path.clone());
            let reason = clear.reason.clone();
            Some(match reason {
                Reason::Unpatchable(_) => Violation::Unpatchable { name, path, reason },
                _ => Violation::UnknownOperator { name, path, reason },
            })
        });
        let mut violations: Vec<_> = tensors.collect();
        if require.unpatchable == Demand::Error {
            let parts = model.passed_over.iter().map(|part| part.path.clone());
            violations.extend(parts.map(|path| Violation::PassedOver { path }));
        }
        if require.unmatched == Demand::Error {
            let unmatched = unmatched(model, policy).into_iter();
            violations
                .extend(unmatched.map(|(entry, similar)| Violation::Unmatched { entry, similar }));
        }
        let weight_bytes = self.weight_bytes();
        let share = self.encrypted_bytes() as f64 / weight_bytes.max(1) as f64;
        if share < require.min_share {
            violations.push(Violation::Share {
                share,
                min_share: require.min_share,
            });
        }
        violations
    }
}

/// Sums up operators by type.
pub(crate) fn types(
    model: &Model<'_>,
    policy: &Policy,
    operators: &[OperatorPlan],
) -> Vec<TypePlan> {
    let mut types: Vec<TypePlan> = Vec::new();
    let mut indices: HashMap<&str, usize> = HashMap::new();
    for operator in operators {
        let index = *indices.entry(&operator.op_type).or_insert(types.len());
        if index == types.len() {
            let node = model.nodes.get(operator.node.index());
            let coefficient = node.map(|node| policy.coefficient(node.domain, node.op_type));
            types.push(TypePlan {
                op_type: operator.op_type.clone(),
                coefficient: coefficient.unwrap_or(0.0),
                n_operators: 0,
                bytes: 0,
                budget_bytes: 0,
                encrypted_bytes: 0,
            });
        }
        let row = &mut types[index];
        row.n_operators += 1;
        row.bytes += operator.bytes;
        row.budget_bytes += operator.volume_bytes;
        row.encrypted_bytes += operator.encrypted_bytes;
    }
    types
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Unpatchable { name, path, reason } => {
                let (name, path, reason) = (excerpt(name), excerpt(path), excerpt(&reason.text()));
                write!(f, "weight {name:?} ({path}) cannot be encrypted: {reason}")
            }
            Violation::PassedOver { path } => {
                write!(f, "{path} may hold weights and was not searched")
            }
            Violation::UnknownOperator { name, path, reason } => {
                let (name, path, reason) = (excerpt(name), excerpt(path), excerpt(&reason.text()));
                write!(f, "{name:?} ({path}) may be a weight: {reason}")
            }
            Violation::Share { share, min_share } => {
                write!(f, "{:.1} % of the weights are encrypted, ", share * 100.0)?;
                write!(f, "at least {:.1} % are demanded", min_share * 100.0)
            }
            Violation::Unmatched { entry, similar } => {
                write!(f, "{entry} matches nothing in the model")?;
                match similar {
                    Some(similar) => write!(f, ": did you mean {similar:?}?"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;

    #[test]
    fn runs_become_ranges_with_their_tiers() {
        let bytes = GraphBuilder::new("g")
            .initializer(weights("w", &[10, 10], 1))
            .node(node("MatMul", &["x", "w"], &["y"]))
            .encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let elements = |unit: u64, targets: &[(u64, u64)], tiers: &[(u8, u64)]| {
            let run = |&(skip, take): &(u64, u64)| Run { skip, take };
            let tier_run = |&(tier, take): &(u8, u64)| TierRun { tier, take };
            let planned = TensorPlan {
                tensor: model.tensors_with_ids().next().unwrap().0,
                operator: 0,
                bytes: 400,
                unit_elements: unit,
                n: 10,
                targets: targets.iter().map(run).collect(),
                encrypted_bytes: 0,
                tiers: tiers.iter().map(tier_run).collect(),
                mode: Mode::Bytes,
                fill: Vec::new(),
            };
            planned.tier_elements()
        };
        let without = elements(4, &[(0, 1), (2, 3)], &[]);
        assert_eq!(without, [((0, 4), 1), ((12, 24), 1)]);
        let with = elements(10, &[(1, 2), (1, 3)], &[(2, 1), (1, 2), (3, 2)]);
        let expected = [((10, 20), 2), ((20, 30), 1), ((40, 50), 1), ((50, 70), 3)];
        assert_eq!(with, expected);
        assert_eq!(elements(10, &[], &[]), []);
    }
}
