//! The operator that owns a tensor, and its coefficient.

use onnxseal_onnx::model::{Model, NodeId, Payload};

use crate::classify::{Classified, Reason};
use crate::op_types::OfOpTypes;
use crate::plan::OperatorPlan;
use crate::policy::Policy;

/// The largest model, in bytes of weights, that presets take whole. In small models one subsequence
/// is a large part of a tensor, and the strength of a partial encryption varies from model to model.
/// Opening so few bytes costs nothing.
const SMALL_MODEL_BYTES: u64 = 44 << 10;

/// Finds owners of tensors.
pub(crate) struct Owners<'p, 'a> {
    model: &'p Model<'a>,
    policy: &'p Policy,
    is_small: bool,
    /// The policy's own coefficient of each operator type, the coefficient, and bytes of a
    /// subsequence.
    of_types: OfOpTypes<'p, 'a, (Option<f64>, f64, u64)>,
}

impl<'p, 'a> Owners<'p, 'a> {
    pub fn new(model: &'p Model<'a>, policy: &'p Policy, classified: &[Classified<'a>]) -> Self {
        let weights = classified.iter().filter(|tensor| tensor.reason.is_none());
        let bytes: u64 = weights.map(|tensor| tensor.bytes).sum();
        Owners {
            model,
            policy,
            is_small: bytes <= SMALL_MODEL_BYTES && policy.takes_small_models(),
            of_types: OfOpTypes::new(model),
        }
    }

    /// Returns the operator that owns a tensor, and the bits of its elements: among those that use
    /// it as weights, the operator with the highest coefficient, and among equals the first in the
    /// file.
    ///
    /// A tensor that no operator uses as weights is owned only if the policy takes everything, or
    /// if an override names it: then by any operator that reads it, or by none.
    pub fn of(
        &self,
        known: &Classified<'_>,
        payload: &Payload,
        named: Option<f64>,
    ) -> Result<(OperatorPlan, u32), Reason> {
        let is_weight = matches!(known.reason, None | Some(Reason::Unpatchable(_)));
        if let Some(reason) = known.reason.as_ref().filter(|_| !is_weight) {
            let is_wanted = match reason {
                Reason::Empty | Reason::SparseIndices | Reason::Shape | Reason::Strings => false,
                Reason::OneElement => named.is_some(),
                _ => named.is_some() || self.policy.takes_everything(),
            };
            if !is_wanted {
                return Err(reason.clone());
            }
        }
        let readers = known.consumers.iter();
        let owner = readers
            .filter(|consumer| consumer.as_weight || !is_weight)
            .filter_map(|consumer| self.operator(consumer.node))
            .reduce(|best, other| {
                if other.coefficient > best.coefficient {
                    other
                } else {
                    best
                }
            })
            .unwrap_or(OperatorPlan {
                node: None,
                coefficient: 1.0,
                whole: false,
                overridden: false,
                unit_bytes: self.policy.least_unit_bytes(),
            });
        match *payload {
            Payload::Dense { element_bits, .. } | Payload::Strided { element_bits, .. } => {
                Ok((owner, element_bits))
            }
            Payload::Empty => Err(Reason::Empty),
            Payload::Unpatchable(why) => Err(match named.unwrap_or(owner.coefficient) {
                0.0 => Reason::ZeroCoefficient,
                _ => Reason::Unpatchable(why),
            }),
        }
    }

    fn operator(&self, id: NodeId) -> Option<OperatorPlan> {
        let (policy, node) = (self.policy, self.model.nodes.get(id.index())?);
        let &(own, of_type, unit_bytes) = self.of_types.get(id, |domain, op_type| {
            let own = policy.own_coefficient(domain, op_type);
            let of_type = policy.coefficient(domain, op_type);
            (own, of_type, policy.unit_bytes(domain, op_type))
        })?;
        let named = policy.of_node(node.name);
        let share = named.unwrap_or(of_type);
        let whole = self.is_small && named.or(own).is_none() && share < 1.0;
        Some(OperatorPlan {
            node: Some(id),
            coefficient: if whole { 1.0 } else { share },
            whole,
            overridden: named.is_some(),
            unit_bytes,
        })
    }
}
