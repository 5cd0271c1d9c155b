//! The way to a plan: owners of weights, budgets, volumes, targets.

use std::collections::HashMap;

use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::{Model, NodeId, Payload, TensorId, Unpatchable};

use crate::classify::{Classified, Reason, classify, op_type};
use crate::error::Error;
use crate::plan::{Clear, Mode, OperatorPlan, Plan, TensorPlan, TypePlan};
use crate::policy::{Policy, Target};
use crate::subsequence::Cut;
use crate::volume::{apportion, budget, proportional};

/// Bytes that the tensors of a model may have together: what the format's integers can state.
const MAX_BYTES: u64 = (1 << 53) - 1;

/// Plans what to encrypt of a model.
///
/// # Errors
///
/// [`Error::TooLarge`].
pub fn plan(model: &Model<'_>, policy: &Policy) -> Result<Plan, Error> {
    let classified = classify(model);
    let total = classified
        .iter()
        .fold(0u64, |sum, tensor| sum.saturating_add(tensor.bytes));
    if total > MAX_BYTES {
        return Err(Error::TooLarge { limit: MAX_BYTES });
    }
    let mut planner = Planner::new(model, policy, &classified);
    planner.apportion_types();
    Ok(planner.finish())
}

/// Builds a plan.
struct Planner<'p, 'a> {
    model: &'p Model<'a>,
    policy: &'p Policy,
    classified: &'p [Classified<'a>],
    operators: Vec<OperatorPlan>,
    /// Whether the operator's coefficient is an override's.
    overridden: Vec<bool>,
    /// In the order of their operators.
    drafts: Vec<Draft>,
    clear: Vec<Clear>,
    unpatchable_bytes: u64,
}

/// One weight tensor on its way into the plan.
struct Draft {
    tensor: TensorId,
    operator: usize,
    bytes: u64,
    /// The coefficient that an override gives to this tensor alone.
    coefficient: Option<f64>,
    volume: u64,
}

impl<'p, 'a> Planner<'p, 'a> {
    /// Finds every weight's owner.
    pub fn new(model: &'p Model<'a>, policy: &'p Policy, classified: &'p [Classified<'a>]) -> Self {
        let mut planner = Planner {
            model,
            policy,
            classified,
            operators: Vec::new(),
            overridden: Vec::new(),
            drafts: Vec::new(),
            clear: Vec::new(),
            unpatchable_bytes: 0,
        };
        let of_nodes = vec![None; model.nodes.len()];
        let mut coefficients = Coefficients {
            model,
            policy,
            of_nodes,
        };
        let mut owned: Vec<(NodeId, Draft)> = Vec::with_capacity(classified.len());
        for ((tensor, located), known) in model.tensors_with_ids().zip(classified) {
            let coefficient = policy.overridden(Target::Initializer, located.name);
            match coefficients.owner(known, &located.payload, coefficient) {
                Ok(node) => {
                    let (operator, bytes, volume) = (0, known.bytes, 0);
                    owned.push((
                        node,
                        Draft {
                            tensor,
                            operator,
                            bytes,
                            coefficient,
                            volume,
                        },
                    ));
                }
                Err(reason) => planner.leave_clear(tensor, reason),
            }
        }
        // Operators in file order, and their tensors in file order.
        owned.sort_by_key(|(node, _)| *node);
        for (node, draft) in owned {
            if planner
                .operators
                .last()
                .is_none_or(|operator| operator.node != node)
            {
                let (coefficient, overridden) = coefficients.of(node);
                planner.overridden.push(overridden);
                planner.operators.push(OperatorPlan {
                    node,
                    op_type: op_type(model, node),
                    coefficient,
                    bytes: 0,
                    volume_bytes: 0,
                    encrypted_bytes: 0,
                    tensors: Vec::new(),
                });
            }
            let index = planner.operators.len() - 1;
            planner.operators[index].bytes += draft.bytes;
            planner.drafts.push(Draft {
                operator: index,
                ..draft
            });
        }
        planner
    }

    /// Gives every tensor its volume.
    pub fn apportion_types(&mut self) {
        let mut pools: HashMap<&str, (f64, Vec<usize>)> = HashMap::new();
        let mut volumes: Vec<u64> = Vec::with_capacity(self.operators.len());
        let mut pooled_bytes = vec![0; self.operators.len()];
        for draft in &mut self.drafts {
            match draft.coefficient {
                Some(coefficient) => draft.volume = budget(coefficient, draft.bytes),
                None => pooled_bytes[draft.operator] += draft.bytes,
            }
        }
        for (index, operator) in self.operators.iter().enumerate() {
            volumes.push(budget(operator.coefficient, pooled_bytes[index]));
            if !self.overridden[index] {
                let empty = || (operator.coefficient, Vec::new());
                pools
                    .entry(&operator.op_type)
                    .or_insert_with(empty)
                    .1
                    .push(index);
            }
        }
        for (coefficient, members) in pools.into_values() {
            let sizes: Vec<u64> = members.iter().map(|&index| pooled_bytes[index]).collect();
            let budget = budget(coefficient, sizes.iter().sum());
            let shares = apportion(self.policy.weighting(), budget, &sizes);
            for (index, share) in members.into_iter().zip(shares) {
                volumes[index] = share;
            }
        }
        for drafts in self.drafts.chunk_by_mut(|a, b| a.operator == b.operator) {
            let pooled = drafts.iter().filter(|draft| draft.coefficient.is_none());
            let sizes: Vec<u64> = pooled.map(|draft| draft.bytes).collect();
            let volume = drafts.first().map_or(0, |draft| volumes[draft.operator]);
            let shares = proportional(volume, &sizes);
            let pooled = drafts
                .iter_mut()
                .filter(|draft| draft.coefficient.is_none());
            for (draft, share) in pooled.zip(shares) {
                draft.volume = share;
            }
        }
    }

    /// Chooses the targets and adds everything up.
    pub fn finish(mut self) -> Plan {
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.sort_by_key(|draft| draft.tensor);
        let mut tensors = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let Some(planned) = self.tensor(&draft) else {
                // What cannot be cut cannot be encrypted; it must not go missing.
                let why = Unpatchable::Fragmented;
                self.leave_clear(draft.tensor, Reason::Unpatchable(why));
                continue;
            };
            if planned.targets.is_empty() {
                let coefficient =
                    (draft.coefficient).unwrap_or(self.operators[draft.operator].coefficient);
                let reason = if coefficient == 0.0 {
                    Reason::ZeroCoefficient
                } else {
                    Reason::NoVolume
                };
                self.leave_clear(draft.tensor, reason);
            }
            let operator = &mut self.operators[draft.operator];
            operator.tensors.push(tensors.len());
            operator.volume_bytes += draft.volume;
            operator.encrypted_bytes += planned.encrypted_bytes;
            tensors.push(planned);
        }
        self.clear.sort_by_key(|clear| clear.tensor);
        Plan {
            types: types(self.model, self.policy, &self.operators),
            operators: self.operators,
            tensors,
            clear: self.clear,
            unpatchable_bytes: self.unpatchable_bytes,
        }
    }

    fn tensor(&self, draft: &Draft) -> Option<TensorPlan> {
        let located = self.model.tensors.get(draft.tensor.index())?;
        let bits = element_bits(located.data_type)?;
        let cut = Cut::new(&located.dims, bits);
        let n_targets = cut.n_targets(draft.volume);
        let targets = self
            .policy
            .strategy()
            .targets(cut.n, n_targets, &located.path);
        let mut at = 0;
        let mut encrypted_bytes = 0;
        for run in &targets {
            encrypted_bytes += cut.bytes(at + run.skip, run.take);
            at += run.skip + run.take;
        }
        Some(TensorPlan {
            tensor: draft.tensor,
            operator: draft.operator,
            consumers: nodes(&self.classified[draft.tensor.index()]),
            bytes: draft.bytes,
            unit_elements: cut.unit,
            n: cut.n,
            targets,
            encrypted_bytes,
            mode: Mode::Bytes,
            tier: 1,
        })
    }

    fn leave_clear(&mut self, tensor: TensorId, reason: Reason) {
        let known = &self.classified[tensor.index()];
        if matches!(reason, Reason::Unpatchable(_)) {
            self.unpatchable_bytes += known.bytes;
        }
        self.clear.push(Clear {
            tensor,
            bytes: known.bytes,
            reason,
            consumers: nodes(known),
        });
    }
}

/// The nodes that read a tensor, each once.
fn nodes(known: &Classified<'_>) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = known
        .consumers
        .iter()
        .map(|consumer| consumer.node)
        .collect();
    nodes.dedup();
    nodes
}

/// Coefficients of operators, each looked up once.
struct Coefficients<'p, 'a> {
    model: &'p Model<'a>,
    policy: &'p Policy,
    of_nodes: Vec<Option<(f64, bool)>>,
}

impl Coefficients<'_, '_> {
    /// The coefficient of an operator, and whether it is an override's.
    fn of(&mut self, node: NodeId) -> (f64, bool) {
        let Some(known) = self.of_nodes.get_mut(node.index()) else {
            return (0.0, false);
        };
        *known.get_or_insert_with(|| {
            let node = &self.model.nodes[node.index()];
            match self.policy.overridden(Target::Node, node.name) {
                Some(coefficient) => (coefficient, true),
                None => (self.policy.coefficient(node.domain, node.op_type), false),
            }
        })
    }

    /// The operator that owns a tensor: of those that use it as weights the one with the highest
    /// coefficient, the first in the file where several have that.
    ///
    /// A tensor that only operators read that have no rule, or as a rule take no weights, is theirs
    /// if an override names it.
    fn owner(
        &mut self,
        known: &Classified<'_>,
        payload: &Payload,
        coefficient: Option<f64>,
    ) -> Result<NodeId, Reason> {
        let forced = match (&known.reason, payload) {
            (None, _) => false,
            (Some(Reason::UnknownOperator { .. } | Reason::NoWeights { .. }), payload)
                if coefficient.is_some() =>
            {
                if let Payload::Unpatchable(why) = payload {
                    return Err(Reason::Unpatchable(*why));
                }
                true
            }
            (Some(reason), _) => return Err(reason.clone()),
        };
        let mut owner: Option<(NodeId, f64)> = None;
        for consumer in known
            .consumers
            .iter()
            .filter(|consumer| consumer.as_weight || forced)
        {
            let (coefficient, _) = self.of(consumer.node);
            if owner.is_none_or(|(_, highest)| coefficient > highest) {
                owner = Some((consumer.node, coefficient));
            }
        }
        owner.map(|(node, _)| node).ok_or(Reason::Unconsumed)
    }
}

/// Adds operators up by type.
fn types(model: &Model<'_>, policy: &Policy, operators: &[OperatorPlan]) -> Vec<TypePlan> {
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
