//! Makes a plan: finds the owners of weights, then budgets and targets.

use std::collections::HashMap;

use onnxseal_onnx::model::{Model, NodeId, TensorId};

use crate::choose::{Candidate, Offer, per_byte, take_best};
use crate::classify::{Classified, MAX_BYTES, Reason, classify, total_bytes};
use crate::error::Error;
use crate::lists::Lists;
use crate::owners::Owners;
use crate::plan::{Clear, OperatorPlan, Plan, Pool, TensorPlan};
use crate::policy::Policy;
use crate::position::{Run, Strategy, indices, spread};
use crate::scores::{Scores, Wanted};
use crate::subsequence::{Cut, unit_bytes};
use crate::tiers::{self, Mode};

/// Plans which parts of a model to encrypt.
///
/// Parts of tensors are chosen by the scores in the policy's ranking. Without one, this calls
/// `score` once, with all such tensors; it returns [`Scores`] of 0 or more, one for each
/// subsequence.
pub fn plan<E: From<Error>>(
    model: &Model<'_>,
    policy: &Policy,
    score: impl FnOnce(&[Wanted]) -> Result<Scores, E>,
) -> Result<Plan, E> {
    if let Some(ranking) = policy.ranking() {
        // Check the ranking even if its scores turn out not to be needed.
        ranking.check(model)?;
    }
    let classified = classify(model);
    if total_bytes(model, &classified) > MAX_BYTES {
        return Err(Error::TooLarge.into());
    }
    let mut planner = Planner::new(model, policy, &classified);
    planner.choose(score)?;
    Ok(planner.finish())
}

/// Builds a plan.
struct Planner<'p, 'a> {
    model: &'p Model<'a>,
    policy: &'p Policy,
    classified: &'p [Classified<'a>],
    operators: Vec<OperatorPlan>,
    /// The tensors, in the order of their operators.
    drafts: Vec<Draft>,
    clear: Vec<Clear>,
    /// Pools of which a part is chosen, with drafts instead of tensors.
    pools: Vec<Pool>,
}

/// One weight tensor on its way into the plan.
struct Draft {
    plan: TensorPlan,
    cut: Cut,
    /// The coefficient that an override gives to this tensor alone.
    named: Option<f64>,
}

/// What shares a budget.
#[derive(PartialEq, Eq, Hash)]
enum Sharing<'a> {
    /// A draft, alone.
    Draft(usize),
    /// The tensors of an operator that an override names.
    Operator(usize),
    /// All operators of a type, by domain and name.
    Type(&'a str, &'a str),
    Everything,
}

impl<'p, 'a> Planner<'p, 'a> {
    /// Finds every weight's owner, and cuts it into subsequences.
    fn new(model: &'p Model<'a>, policy: &'p Policy, classified: &'p [Classified<'a>]) -> Self {
        let owners = Owners::new(model, policy, classified);
        let mut owned: Vec<(OperatorPlan, TensorId, u32, Option<f64>)> = Vec::new();
        let mut clear = Vec::new();
        for ((tensor, located), known) in model.tensors_with_ids().zip(classified) {
            let named = policy.of_tensor(located.name);
            match owners.of(known, &located.payload, named) {
                Ok((owner, bits)) => owned.push((owner, tensor, bits, named)),
                Err(reason) => clear.push(Clear {
                    tensor,
                    bytes: known.bytes,
                    reason,
                }),
            }
        }
        // Operators in file order, then tensors without one; tensors of each in file order.
        owned.sort_by_key(|(owner, ..)| (owner.node.is_none(), owner.node));
        let bytes = owned
            .iter()
            .map(|(_, tensor, ..)| classified[tensor.index()].bytes);
        // The scores of a ranking belong to its own units.
        let least = match policy.ranking() {
            Some(_) => 0,
            None => unit_bytes(0, bytes.sum()),
        };
        let mut operators: Vec<OperatorPlan> = Vec::with_capacity(owned.len());
        let mut drafts = Vec::with_capacity(owned.len());
        for (owner, tensor, bits, named) in owned {
            if operators.last().is_none_or(|last| last.node != owner.node) {
                operators.push(owner);
            }
            let n_elements = model.tensors[tensor.index()].n_elements;
            let cut = Cut::new(n_elements, bits, owner.unit_bytes.max(least));
            let plan = TensorPlan {
                tensor,
                operator: operators.len() - 1,
                bytes: classified[tensor.index()].bytes,
                unit_elements: cut.unit,
                n: cut.n,
                targets: Vec::new(),
                encrypted_bytes: 0,
                tiers: Vec::new(),
                mode: Mode::Bytes,
                fill: Vec::new(),
            };
            drafts.push(Draft { plan, cut, named });
        }
        Planner {
            model,
            policy,
            classified,
            operators,
            drafts,
            clear,
            pools: Vec::new(),
        }
    }

    /// Returns the coefficient of a tensor.
    fn coefficient(&self, draft: &Draft) -> f64 {
        (draft.named).unwrap_or(self.operators[draft.plan.operator].coefficient)
    }

    /// Forms pools of tensors with a common budget, and takes the highest scores of each pool.
    fn choose<E: From<Error>>(
        &mut self,
        score: impl FnOnce(&[Wanted]) -> Result<Scores, E>,
    ) -> Result<(), E> {
        let has_tiers = !self.policy.tiers().is_empty();
        let mut chosen: Vec<usize> = Vec::new();
        for pool in self.pools() {
            let bytes = pool
                .tensors
                .iter()
                .map(|&member| self.drafts[member].plan.bytes);
            let is_whole = pool.budget_bytes >= bytes.sum();
            if pool.budget_bytes == 0 {
                continue;
            }
            // The choice of everything needs no scores, but tiers do.
            if has_tiers || !is_whole {
                chosen.extend(&pool.tensors);
            }
            if !is_whole {
                self.pools.push(pool);
                continue;
            }
            for member in pool.tensors {
                let Draft { plan, cut, .. } = &mut self.drafts[member];
                plan.targets = vec![Run {
                    skip: 0,
                    take: cut.n,
                }];
            }
        }
        let mut scores = vec![Vec::new(); self.drafts.len()];
        if has_tiers {
            chosen.retain(|&member| {
                let Draft { plan, cut, .. } = &self.drafts[member];
                let is_weight = self.classified[plan.tensor.index()].reason.is_none();
                if !is_weight {
                    // Indices, masks and the like: an edition without them would not run at all.
                    scores[member] = vec![f64::MAX; cut.n as usize];
                }
                is_weight
            });
        }
        for (&member, of_tensor) in chosen.iter().zip(self.score(&chosen, score)?) {
            scores[member] = of_tensor;
        }
        for pool in &self.pools {
            let offers = pool.tensors.iter().map(|&member| {
                let draft = &self.drafts[member];
                // Tiers will need the scores again.
                let scores = match has_tiers {
                    true => scores[member].clone(),
                    false => std::mem::take(&mut scores[member]),
                };
                Offer::new(draft.cut, scores, self.coefficient(draft))
            });
            let offers: Vec<Offer> = offers.collect();
            let taken = take_best(&offers, pool.budget_bytes);
            for (&member, targets) in pool.tensors.iter().zip(taken) {
                let plan = &mut self.drafts[member].plan;
                plan.targets = match self.policy.strategy {
                    Strategy::Energy => targets,
                    Strategy::Spread => spread(plan.n, targets.iter().map(|run| run.take).sum()),
                };
            }
        }
        if has_tiers {
            self.assign_tiers(&scores);
        }
        Ok(())
    }

    /// Returns budgets in bytes, each with its drafts, in their order; a draft belongs to one pool.
    fn pools(&self) -> Vec<Pool> {
        let (mut pools, mut numbers): (Vec<(f64, Pool)>, _) = (Vec::new(), HashMap::new());
        for (index, draft) in self.drafts.iter().enumerate() {
            let (coefficient, operator) = (self.coefficient(draft), draft.plan.operator);
            let OperatorPlan {
                node, overridden, ..
            } = self.operators[operator];
            let is_certain =
                coefficient == 0.0 || coefficient == 1.0 && self.policy.budget.is_none();
            let node = node.map(|node| &self.model.nodes[node.index()]);
            let sharing = match (self.policy.strategy, node) {
                _ if draft.named.is_some() || is_certain => Sharing::Draft(index),
                _ if overridden => Sharing::Operator(operator),
                (Strategy::Spread, Some(node)) => Sharing::Type(node.domain, node.op_type),
                _ => Sharing::Everything,
            };
            let share = match sharing {
                Sharing::Everything => self.policy.budget.unwrap_or(coefficient),
                _ => coefficient,
            };
            let number = *numbers.entry(sharing).or_insert(pools.len());
            if number == pools.len() {
                let tensors = Vec::new();
                pools.push((
                    0.0,
                    Pool {
                        budget_bytes: 0,
                        tensors,
                    },
                ));
            }
            let (exact, pool) = &mut pools[number];
            *exact += share * draft.plan.bytes as f64;
            pool.tensors.push(index);
        }
        let rounded = pools.into_iter().map(|(exact, pool)| Pool {
            // Exact for coefficients of 0 and 1; between them, to half a byte up to 2^52 bytes.
            budget_bytes: exact.round() as u64,
            ..pool
        });
        rounded.collect()
    }

    /// Returns the scores of the drafts `chosen`.
    fn score<E: From<Error>>(
        &self,
        chosen: &[usize],
        score: impl FnOnce(&[Wanted]) -> Result<Scores, E>,
    ) -> Result<Scores, E> {
        if self.policy.strategy == Strategy::Spread {
            return Ok(self.evenly(chosen));
        }
        let wanted = chosen.iter().map(|&member| {
            let plan = &self.drafts[member].plan;
            Wanted {
                tensor: plan.tensor,
                unit_elements: plan.unit_elements,
                n: plan.n,
            }
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let scores = match self.policy.ranking() {
            _ if wanted.is_empty() => Scores::new(),
            Some(ranking) => ranking.scores(self.model, &wanted)?,
            None => score(&wanted)?,
        };
        let fits = wanted.iter().map(|tensor| tensor.n as usize);
        match fits.eq(scores.iter().map(Vec::len)) {
            true => Ok(scores),
            false => Err(Error::Scores.into()),
        }
    }

    /// Scores drafts so that a pool takes as many bytes of each operator, or all it has, and the
    /// same share of each of the operator's tensors.
    fn evenly(&self, chosen: &[usize]) -> Scores {
        let mut bytes_of = vec![0; self.operators.len()];
        for &member in chosen {
            let Draft { plan, named, .. } = &self.drafts[member];
            bytes_of[plan.operator] += if named.is_some() { 0 } else { plan.bytes };
        }
        let scores = chosen.iter().map(|&member| {
            let Draft { plan, cut, .. } = &self.drafts[member];
            let bytes = bytes_of[plan.operator].max(1) as f64;
            // Of each tensor, the first one comes before any second one.
            let share = |index: u64| (index as f64).max(1e-9) / cut.n as f64;
            let of = |index| cut.bytes(index, 1) as f64 / (bytes * share(index));
            (0..cut.n).map(of).collect()
        });
        scores.collect()
    }

    /// Gives every target its tier, by its score.
    fn assign_tiers(&mut self, scores: &[Vec<f64>]) {
        let mut candidates = Vec::new();
        let mut least = 0;
        for (member, (Draft { plan, cut, .. }, scores)) in
            self.drafts.iter().zip(scores).enumerate()
        {
            let is_weight = self.classified[plan.tensor.index()].reason.is_none();
            candidates.extend(indices(&plan.targets).map(|index| {
                let bytes = cut.bytes(index, 1);
                least += if is_weight { 0 } else { bytes };
                Candidate::new(
                    per_byte(scores[index as usize], bytes),
                    bytes,
                    member,
                    index,
                )
            }));
        }
        let assigned = tiers::assign(candidates, self.policy.tiers(), least);
        for of_tensor in assigned.chunk_by(|a, b| a.0 == b.0) {
            let tiers = of_tensor.iter().map(|&(_, _, tier)| tier);
            self.drafts[of_tensor[0].0 as usize].plan.tiers = tiers::runs(tiers);
        }
    }

    /// Puts the tensors in the order of the file.
    fn finish(self) -> Plan {
        let Planner {
            model,
            policy,
            classified,
            operators,
            drafts,
            mut clear,
            mut pools,
        } = self;
        let members: Vec<TensorId> = drafts.iter().map(|draft| draft.plan.tensor).collect();
        let tensors = drafts.into_iter().map(
            |Draft {
                 mut plan,
                 cut,
                 named,
             }| {
                let (id, operator) = (plan.tensor, &operators[plan.operator]);
                let (tensor, known) = (&model.tensors[id.index()], &classified[id.index()]);
                plan.encrypted_bytes = cut.target_bytes(&plan.targets);
                if plan.targets.is_empty() {
                    let reason = match named.unwrap_or(operator.coefficient) {
                        0.0 => Reason::ZeroCoefficient,
                        _ => Reason::NoVolume,
                    };
                    clear.push(Clear {
                        tensor: id,
                        bytes: plan.bytes,
                        reason,
                    });
                }
                if !plan.tiers.is_empty() {
                    let node = operator.node.map(|node| &model.nodes[node.index()]);
                    let wanted =
                        node.map_or(Mode::Bytes, |node| policy.mode(node.domain, node.op_type));
                    plan.mode = tiers::mode(wanted, model, tensor, known);
                    plan.fill = tiers::fill(model, tensor, known);
                }
                plan
            },
        );
        let mut tensors: Vec<TensorPlan> = tensors.collect();
        tensors.sort_by_key(|plan| plan.tensor);
        clear.sort_by_key(|clear| clear.tensor);
        // Without weights, positions of `spread` are known too.
        pools.retain(|_| policy.strategy == Strategy::Energy);
        for pool in &mut pools {
            for index in &mut pool.tensors {
                *index = tensors.partition_point(|plan| plan.tensor < members[*index]);
            }
            pool.tensors.sort_unstable();
        }
        let readers = (0..).zip(classified);
        let readers = readers.flat_map(|(id, known)| known.nodes().map(move |node| (id, node)));
        let readers: Vec<(u32, NodeId)> = readers.collect();
        Plan {
            pools,
            operators,
            tensors,
            clear,
            total_bytes: total_bytes(model, classified),
            gaps: Vec::new(),
            consumers: Lists::new(classified.len(), &readers),
        }
    }
}
