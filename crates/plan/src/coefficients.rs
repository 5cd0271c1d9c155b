//! Coefficients of operators, and the operator that owns a tensor.

use onnxseal_onnx::model::{Model, NodeId, Payload};

use crate::classify::{Classified, Reason};
use crate::op_types::OfOpTypes;
use crate::policy::{Policy, Target};

/// Coefficients of operators, each looked up once.
pub(crate) struct Coefficients<'p, 'a> {
    model: &'p Model<'a>,
    policy: &'p Policy,
    is_small: bool,
    of_nodes: Vec<Option<Coefficient>>,
    of_types: OfOpTypes<'p, 'a, OfType>,
}

/// The policy's word on an operator type.
struct OfType {
    share: f64,
    /// Whether the coefficient is the preset's.
    is_presets: bool,
}

/// The coefficient of one operator.
#[derive(Clone, Copy, Default)]
pub(crate) struct Coefficient {
    pub share: f64,
    /// Whether it comes from an override.
    pub overridden: bool,
    /// Whether the preset takes all, because the model is small.
    pub whole: bool,
}

impl<'p, 'a> Coefficients<'p, 'a> {
    pub fn new(model: &'p Model<'a>, policy: &'p Policy, classified: &[Classified<'a>]) -> Self {
        let weights = classified.iter().filter(|tensor| tensor.reason.is_none());
        let bytes: u64 = weights.map(|tensor| tensor.bytes).sum();
        Coefficients {
            model,
            policy,
            is_small: bytes <= policy.small_model_bytes(),
            of_nodes: vec![None; model.nodes.len()],
            of_types: OfOpTypes::new(model),
        }
    }

    /// Returns the coefficient of tensors that no node reads.
    pub fn of_none() -> Coefficient {
        Coefficient {
            share: 1.0,
            ..Coefficient::default()
        }
    }

    pub fn of(&mut self, node: NodeId) -> Coefficient {
        let Some(known) = self.of_nodes.get(node.index()) else {
            return Coefficient::default();
        };
        let found = known.unwrap_or_else(|| self.look_up(node));
        self.of_nodes[node.index()] = Some(found);
        found
    }

    fn look_up(&self, id: NodeId) -> Coefficient {
        let node = &self.model.nodes[id.index()];
        if let Some(share) = self.policy.overridden(Target::Node, node.name) {
            return Coefficient {
                share,
                overridden: true,
                whole: false,
            };
        }
        let of_type = self.of_types.get(id, |domain, op_type| OfType {
            share: self.policy.coefficient(domain, op_type),
            is_presets: self.policy.is_presets(domain, op_type),
        });
        let Some(&OfType { share, is_presets }) = of_type else {
            return Coefficient::default();
        };
        let whole = self.is_small && is_presets && share < 1.0;
        Coefficient {
            share: if whole { 1.0 } else { share },
            overridden: false,
            whole,
        }
    }

    /// Returns the operator that owns a tensor: among those that use it as weights, the one with
    /// the highest coefficient, and among equals the first in the file.
    ///
    /// A tensor that no operator uses as weights is owned only if the policy takes everything, or
    /// if an override names it: then by any operator that reads it, or by none.
    pub fn owner(
        &mut self,
        known: &Classified<'_>,
        payload: &Payload,
        coefficient: Option<f64>,
    ) -> Result<Owner, Reason> {
        let is_weight = matches!(known.reason, None | Some(Reason::Unpatchable(_)));
        match &known.reason {
            None | Some(Reason::Unpatchable(_)) => {}
            Some(reason) => {
                let is_named = match reason {
                    Reason::Empty | Reason::SparseIndices | Reason::Shape | Reason::Strings => {
                        false
                    }
                    Reason::OneElement => coefficient.is_some(),
                    _ => coefficient.is_some() || self.policy.takes_everything(),
                };
                if !is_named {
                    return Err(reason.clone());
                }
            }
        }
        let mut owner: Option<(NodeId, f64)> = None;
        for consumer in known
            .consumers
            .iter()
            .filter(|consumer| consumer.as_weight || !is_weight)
        {
            let coefficient = self.of(consumer.node);
            if owner.is_none_or(|(_, highest)| coefficient.share > highest) {
                owner = Some((consumer.node, coefficient.share));
            }
        }
        let share = coefficient.or(owner.map(|(_, share)| share));
        if let Payload::Unpatchable(why) = payload {
            return Err(match share {
                Some(0.0) => Reason::ZeroCoefficient,
                _ => Reason::Unpatchable(*why),
            });
        }
        Ok(Owner {
            node: owner.map(|(node, _)| node),
            is_weight,
        })
    }
}

/// The operator that owns a tensor.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    /// The node; `None` if no node reads the tensor.
    pub node: Option<NodeId>,
    /// Whether the node uses it as weights.
    pub is_weight: bool,
}
