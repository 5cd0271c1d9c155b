//! Makes a plan: finds the owners of weights, then budgets, volumes and targets.

use std::collections::HashMap;

use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::{Model, TensorId, Unpatchable};

use crate::choose::{Candidate, Offer, take_best};
use crate::classify::{Classified, MAX_BYTES, Reason, classify_in, total_bytes};
use crate::coefficients::{Coefficient, Coefficients, Owner};
use crate::dataflow::Dataflow;
use crate::draft::{Draft, indices};
use crate::error::Error;
use crate::lists::Lists;
use crate::op_types::OfOpTypes;
use crate::plan::{Clear, OperatorPlan, Plan, Pool, TensorPlan, types};
use crate::policy::{Policy, Target};
use crate::position::{Strategy, spread};
use crate::rules;
use crate::scores::{Scores, Wanted};
use crate::subsequence::{Cut, unit_bytes};
use crate::tiers::{self, Mode};
use crate::volume::{budget, equal, proportional};

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
    let classified = classify_in(model, &Dataflow::new(model));
    if total_bytes(model, &classified) > MAX_BYTES {
        return Err(Error::TooLarge { limit: MAX_BYTES }.into());
    }
    let mut planner = Planner::new(model, policy, &classified);
    planner.cut();
    match policy.strategy() {
        Strategy::Energy => planner.choose_by_score(|wanted| match policy.ranking() {
            Some(ranking) => Ok(ranking.of_wanted(model, wanted)?),
            None => score(wanted),
        })?,
        Strategy::Spread => planner.choose_evenly(),
    }
    Ok(planner.finish())
}

/// Builds a plan.
struct Planner<'p, 'a> {
    model: &'p Model<'a>,
    policy: &'p Policy,
    classified: &'p [Classified<'a>],
    operators: Vec<OperatorPlan>,
    /// Whether each operator has a volume of its own: an override names it, or it is taken whole.
    apart: Vec<bool>,
    /// The tensors, in the order of their operators.
    drafts: Vec<Draft>,
    clear: Vec<Clear>,
    pools: Vec<(u64, Vec<usize>)>,
}

impl<'p, 'a> Planner<'p, 'a> {
    /// Finds every weight's owner.
    fn new(model: &'p Model<'a>, policy: &'p Policy, classified: &'p [Classified<'a>]) -> Self {
        let mut planner = Planner {
            model,
            policy,
            classified,
            operators: Vec::new(),
            apart: Vec::new(),
            drafts: Vec::new(),
            clear: Vec::new(),
            pools: Vec::new(),
        };
        let mut coefficients = Coefficients::new(model, policy, classified);
        let mut owned: Vec<(Owner, TensorId, Option<f64>)> = Vec::with_capacity(classified.len());
        for ((tensor, located), known) in model.tensors_with_ids().zip(classified) {
            let coefficient = policy.overridden(Target::Initializer, located.name);
            match coefficients.owner(known, &located.payload, coefficient) {
                Ok(owner) => owned.push((owner, tensor, coefficient)),
                Err(reason) => planner.leave_clear(tensor, reason),
            }
        }
        let op_types = OfOpTypes::new(model);
        // Operators in file order, then tensors without one; tensors of each in file order.
        owned.sort_by_key(|(owner, ..)| (owner.node.is_none(), owner.node));
        planner.drafts.reserve_exact(owned.len());
        planner.operators.reserve_exact(owned.len());
        for (Owner { node, is_weight }, tensor, coefficient) in owned {
            if planner
                .operators
                .last()
                .is_none_or(|operator| operator.node != node)
            {
                let Coefficient {
                    share,
                    overridden,
                    whole,
                } = node.map_or_else(Coefficients::of_none, |node| coefficients.of(node));
                planner.apart.push(overridden || whole);
                planner.operators.push(OperatorPlan {
                    node,
                    op_type: (node
                        .and_then(|node| op_types.get(node, rules::qualified))
                        .cloned())
                    .unwrap_or_default(),
                    coefficient: share,
                    whole,
                    bytes: 0,
                    volume_bytes: 0,
                    encrypted_bytes: 0,
                });
            }
            let operator = planner.operators.len() - 1;
            let bytes = classified[tensor.index()].bytes;
            planner.operators[operator].bytes += bytes;
            planner.drafts.push(Draft {
                tensor,
                operator,
                bytes,
                is_weight,
                coefficient,
                volume: 0,
                cut: None,
                targets: Vec::new(),
                tiers: Vec::new(),
            });
        }
        planner
    }

    /// Cuts every tensor into subsequences.
    fn cut(&mut self) {
        let total: u64 = self.drafts.iter().map(|draft| draft.bytes).sum();
        // The scores of a ranking belong to its own units.
        let least = match self.policy.ranking() {
            Some(_) => 0,
            None => unit_bytes(0, total),
        };
        let units = OfOpTypes::new(self.model);
        for draft in &mut self.drafts {
            let located = self.model.tensors.get(draft.tensor.index());
            draft.cut = located.and_then(|located| {
                let bits = element_bits(located.data_type)?;
                Some(match self.policy.strategy() {
                    Strategy::Energy => {
                        let node = self.operators[draft.operator].node;
                        let of_type = |domain, op_type| self.policy.unit_bytes(domain, op_type);
                        let unit_bytes = match node {
                            Some(node) => *units.get(node, of_type)?,
                            None => self.policy.least_unit_bytes(),
                        };
                        Cut::flat(located.n_elements, bits, unit_bytes.max(least))
                    }
                    Strategy::Spread => Cut::new(&located.dims, bits),
                })
            });
        }
    }

    /// Returns the coefficient of a tensor.
    fn coefficient(&self, draft: &Draft) -> f64 {
        (draft.coefficient).unwrap_or(self.operators[draft.operator].coefficient)
    }

    /// Apportions each type's budget over its operators and their tensors, and spreads each
    /// tensor's volume evenly.
    fn choose_evenly(&mut self) {
        self.apportion_types();
        for draft in &mut self.drafts {
            if let Some(cut) = draft.cut {
                draft.targets = spread(cut.n, cut.n_targets(draft.volume));
            }
        }
    }

    /// Forms pools of tensors with a common budget, and takes the highest scores of each pool.
    fn choose_by_score<E: From<Error>>(
        &mut self,
        score: impl FnOnce(&[Wanted]) -> Result<Scores, E>,
    ) -> Result<(), E> {
        let pools = self.pools();
        let has_tiers = !self.policy.tiers().is_empty();
        let mut chosen: Vec<usize> = Vec::new();
        for (pool_budget, members) in pools {
            let bytes = members.iter().map(|&member| self.drafts[member].bytes);
            let bytes: u64 = bytes.sum();
            if pool_budget == 0 || bytes == 0 {
                continue;
            }
            if pool_budget >= bytes {
                for &member in &members {
                    self.drafts[member].take_whole();
                }
                // The choice needs no scores, but tiers do.
                if has_tiers {
                    chosen.extend(&members);
                }
                continue;
            }
            chosen.extend(&members);
            self.pools.push((pool_budget, members));
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let mut of_drafts = vec![Vec::new(); self.drafts.len()];
        chosen.retain(|&member| {
            let draft = &self.drafts[member];
            // Indices, masks and the like: an edition without them would not run at all.
            let is_first = has_tiers && !draft.is_weight;
            if let (true, Some(cut)) = (is_first, draft.cut) {
                of_drafts[member] = vec![f64::MAX; cut.n as usize];
            }
            draft.cut.is_some() && !is_first
        });
        let wanted = chosen.iter().filter_map(|&member| {
            let draft = &self.drafts[member];
            draft.cut.map(|cut| Wanted {
                tensor: draft.tensor,
                unit_elements: cut.unit,
                n: cut.n,
            })
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let scores = match wanted.is_empty() {
            true => Scores::new(),
            false => score(&wanted)?,
        };
        let fits = wanted.iter().map(|tensor| tensor.n as usize);
        if !fits.eq(scores.iter().map(Vec::len)) {
            return Err(Error::Scores.into());
        }
        for (&member, scores) in chosen.iter().zip(scores) {
            of_drafts[member] = scores;
        }
        for (pool_budget, members) in std::mem::take(&mut self.pools) {
            self.take_best(pool_budget, &members, &mut of_drafts);
            self.pools.push((pool_budget, members));
        }
        if has_tiers {
            self.grade(&of_drafts);
        }
        Ok(())
    }

    /// Returns budgets in bytes, each with its tensors; a tensor belongs to one pool.
    fn pools(&self) -> Vec<(u64, Vec<usize>)> {
        let mut pools: Vec<(u64, Vec<usize>)> = Vec::new();
        // The tensors of each operator with a volume of its own.
        let mut apart: HashMap<usize, Vec<usize>> = HashMap::new();
        // The tensors of all other operators.
        let (mut shared, mut shared_bytes, mut exact) = (Vec::new(), 0, 0.0);
        let whole_share = self.policy.budget();
        for (index, draft) in self.drafts.iter().enumerate() {
            let coefficient = self.coefficient(draft);
            if draft.coefficient.is_some() {
                pools.push((budget(coefficient, draft.bytes), vec![index]));
            } else if self.apart[draft.operator] {
                apart.entry(draft.operator).or_default().push(index);
            } else if coefficient == 0.0 {
                pools.push((0, vec![index]));
            } else if coefficient == 1.0 && whole_share.is_none() {
                pools.push((draft.bytes, vec![index]));
            } else {
                exact += coefficient * draft.bytes as f64;
                shared_bytes += draft.bytes;
                shared.push(index);
            }
        }
        if !shared.is_empty() {
            let share = whole_share.unwrap_or(exact / shared_bytes.max(1) as f64);
            pools.push((budget(share.min(1.0), shared_bytes), shared));
        }
        pools.extend(apart.into_iter().map(|(operator, members)| {
            let bytes = members.iter().map(|&member| self.drafts[member].bytes);
            let coefficient = self.operators[operator].coefficient;
            (budget(coefficient, bytes.sum()), members)
        }));
        // In the order of the file, instead of the hashes'.
        pools.sort_by_key(|(_, members)| members.first().copied());
        pools
    }

    /// Takes the best subsequences of the drafts `members`, up to `pool_budget` bytes.
    fn take_best(&mut self, pool_budget: u64, members: &[usize], of_drafts: &mut [Vec<f64>]) {
        let has_tiers = !self.policy.tiers().is_empty();
        let mut offering = Vec::with_capacity(members.len());
        let mut offers = Vec::with_capacity(members.len());
        for &member in members {
            let draft = &self.drafts[member];
            // Tiers will need the scores again.
            let scores = if has_tiers {
                of_drafts[member].clone()
            } else {
                std::mem::take(&mut of_drafts[member])
            };
            if let Some(cut) = draft.cut.filter(|_| !scores.is_empty()) {
                offers.push(Offer::new(cut, scores, self.coefficient(draft)));
                offering.push(member);
            }
        }
        let taken = take_best(&offers, pool_budget);
        for ((member, offer), targets) in offering.into_iter().zip(&offers).zip(taken) {
            let draft = &mut self.drafts[member];
            draft.volume = offer.cut.target_bytes(&targets);
            draft.targets = targets;
        }
    }

    /// Gives every target its tier, by its score.
    fn grade(&mut self, of_drafts: &[Vec<f64>]) {
        let mut candidates = Vec::new();
        let mut least = 0;
        for (member, (draft, scores)) in self.drafts.iter().zip(of_drafts).enumerate() {
            let Some(cut) = draft.cut.filter(|_| !scores.is_empty()) else {
                continue;
            };
            candidates.extend(indices(&draft.targets).map(|index| {
                let bytes = cut.bytes(index, 1);
                least += if draft.is_weight { 0 } else { bytes };
                let score = scores.get(index as usize).copied().unwrap_or(0.0);
                Candidate::new(score, bytes, member, index)
            }));
        }
        let graded = tiers::grade(candidates, self.policy.tiers(), least);
        for of_tensor in graded.chunk_by(|a, b| a.0 == b.0) {
            let tiers = of_tensor.iter().map(|&(_, _, tier)| tier);
            if let Some((member, _, _)) = of_tensor.first() {
                self.drafts[*member as usize].tiers = tiers::runs(tiers);
            }
        }
    }

    /// Returns every operator's volume, by position in [`Planner::operators`], without tensors that
    /// have coefficients of their own.
    fn volumes(&self) -> Vec<u64> {
        let mut pools: HashMap<&str, (f64, Vec<usize>)> = HashMap::new();
        let mut volumes: Vec<u64> = Vec::with_capacity(self.operators.len());
        let mut pooled_bytes = vec![0; self.operators.len()];
        for draft in self
            .drafts
            .iter()
            .filter(|draft| draft.coefficient.is_none())
        {
            pooled_bytes[draft.operator] += draft.bytes;
        }
        for (index, operator) in self.operators.iter().enumerate() {
            volumes.push(budget(operator.coefficient, pooled_bytes[index]));
            if !self.apart[index] {
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
            let shares = equal(budget, &sizes);
            for (index, share) in members.into_iter().zip(shares) {
                volumes[index] = share;
            }
        }
        volumes
    }

    /// Gives every tensor its volume.
    fn apportion_types(&mut self) {
        let volumes = self.volumes();
        for draft in &mut self.drafts {
            if let Some(coefficient) = draft.coefficient {
                draft.volume = budget(coefficient, draft.bytes);
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

    /// Sums up volumes and makes the plan.
    fn finish(mut self) -> Plan {
        let mut drafts = std::mem::take(&mut self.drafts);
        let mut in_file: Vec<usize> = (0..drafts.len()).collect();
        in_file.sort_by_key(|&member| drafts[member].tensor);
        let mut places = vec![None; drafts.len()];
        let mut tensors = Vec::with_capacity(drafts.len());
        for member in in_file {
            let draft = &mut drafts[member];
            let Some(cut) = draft.cut else {
                // A tensor that cannot be cut stays in clear, and the plan must list it.
                let why = Unpatchable::Fragmented;
                self.leave_clear(draft.tensor, Reason::Unpatchable(why));
                continue;
            };
            if draft.targets.is_empty() {
                let reason = match self.coefficient(draft) {
                    0.0 => Reason::ZeroCoefficient,
                    _ => Reason::NoVolume,
                };
                self.leave_clear(draft.tensor, reason);
            }
            let encrypted_bytes = cut.target_bytes(&draft.targets);
            let (mode, fill) = if draft.tiers.is_empty() {
                (Mode::Bytes, Vec::new())
            } else {
                self.stand_in(draft)
            };
            let operator = &mut self.operators[draft.operator];
            operator.volume_bytes += draft.volume;
            operator.encrypted_bytes += encrypted_bytes;
            places[member] = Some(tensors.len());
            tensors.push(TensorPlan {
                tensor: draft.tensor,
                operator: draft.operator,
                bytes: draft.bytes,
                unit_elements: cut.unit,
                n: cut.n,
                targets: std::mem::take(&mut draft.targets),
                encrypted_bytes,
                tiers: std::mem::take(&mut draft.tiers),
                mode,
                fill,
            });
        }
        self.clear.sort_by_key(|clear| clear.tensor);
        let pools = self.pools.into_iter().map(|(budget_bytes, members)| {
            let mut tensors: Vec<usize> = members.iter().filter_map(|&m| places[m]).collect();
            tensors.sort_unstable();
            Pool {
                budget_bytes,
                tensors,
            }
        });
        Plan {
            pools: pools.collect(),
            types: types(self.model, self.policy, &self.operators),
            operators: self.operators,
            tensors,
            clear: self.clear,
            total_bytes: total_bytes(self.model, self.classified),
            gaps: Vec::new(),
            consumers: Lists::of_each(self.classified.iter().map(Classified::nodes)),
        }
    }

    /// Returns how the targets of higher tiers are encrypted, and the bytes that replace them.
    fn stand_in(&self, draft: &Draft) -> (Mode, Vec<u8>) {
        let node = self.operators[draft.operator].node;
        let node = node.and_then(|node| self.model.nodes.get(node.index()));
        let wanted = node.map_or(Mode::Bytes, |node| {
            self.policy.mode(node.domain, node.op_type)
        });
        let tensor = &self.model.tensors[draft.tensor.index()];
        let known = &self.classified[draft.tensor.index()];
        (
            tiers::mode(wanted, self.model, tensor, known),
            tiers::fill(self.model, tensor, known),
        )
    }

    fn leave_clear(&mut self, tensor: TensorId, reason: Reason) {
        let known = &self.classified[tensor.index()];
        self.clear.push(Clear {
            tensor,
            bytes: known.bytes,
            reason,
        });
    }
}
