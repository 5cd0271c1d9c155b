//! What a protected model lacks of what a policy demands.

use std::collections::HashMap;

use onnxseal_onnx::{Model, excerpt};
use onnxseal_plan::{self as plan, Plan, Policy, Scores, TensorPlan, Wanted};

use crate::check::report::list;
use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, Tensor};

/// The ways in which `manifest` encrypts less of `model` than `policy` demands, as far as anybody can tell
/// who does not know the weights.
///
/// Where the policy chooses by score, its budgets hold, and its units, and what it takes whole. Which
/// subsequences weigh most remains open.
pub(crate) fn shortfalls(
    model: &Model<'_>,
    manifest: &Manifest,
    policy: &Policy,
) -> Result<Vec<String>> {
    if policy.ranking().is_some() {
        // A ranking is known to whoever has it, whatever the weights are.
        return shortfalls_of_choice(model, manifest, policy, |wanted| Ok(plan::uniform(wanted)));
    }
    let uniform = |wanted: &[Wanted]| Ok::<_, plan::Error>(plan::uniform(wanted));
    let check = Check::new(model, manifest, plan::plan(model, policy, uniform)?)?;
    let pooled = check
        .plan
        .pools
        .iter()
        .flat_map(|pool| pool.tensors.iter().copied());
    let mut is_pooled = vec![false; check.plan.tensors.len()];
    pooled.for_each(|index| is_pooled[index] = true);
    let mut found = Vec::new();
    for (index, planned) in check.plan.tensors.iter().enumerate() {
        found.extend(match is_pooled[index] {
            true => check.coarse(planned),
            false => check.few(planned),
        });
    }
    for pool in &check.plan.pools {
        let tensors = || pool.tensors.iter().map(|&index| &check.plan.tensors[index]);
        let encrypted: u64 = tensors()
            .map(|planned| check.encrypted_bytes(planned))
            .sum();
        if encrypted < pool.budget_bytes {
            let bytes: u64 = tensors().map(|planned| planned.bytes).sum();
            let which = match tensors().count() {
                1 => tensors()
                    .map(|planned| check.tensor(planned) + " has")
                    .collect(),
                n => format!("{n} tensors together have"),
            };
            found.push(format!(
                "{which} {encrypted} of {bytes} bytes encrypted, expected at least {}",
                pool.budget_bytes
            ));
        }
    }
    Ok(check.with_violations(policy, &found))
}

/// The same, for somebody who knows the scores, by the policy's ranking or because `score` opens the model:
/// exactly what the policy chooses is encrypted at least.
pub(crate) fn shortfalls_of_choice(
    model: &Model<'_>,
    manifest: &Manifest,
    policy: &Policy,
    score: impl FnOnce(&[Wanted]) -> Result<Scores>,
) -> Result<Vec<String>> {
    let check = Check::new(model, manifest, plan::plan(model, policy, score)?)?;
    let by_position = check.plan.pools.is_empty();
    let found = check
        .plan
        .tensors
        .iter()
        .filter_map(|planned| match by_position {
            true => check.few(planned),
            false => check.few(planned).or_else(|| check.others(planned)),
        });
    let found: Vec<String> = found.collect();
    Ok(check.with_violations(policy, &found))
}

/// A plan, and what is encrypted in truth.
struct Check<'a> {
    model: &'a Model<'a>,
    plan: Plan,
    by_path: HashMap<&'a str, &'a Tensor>,
}

impl<'a> Check<'a> {
    fn new(model: &'a Model<'a>, manifest: &'a Manifest, plan: Plan) -> Result<Check<'a>> {
        let tensors = manifest.tensors.iter();
        let by_path = tensors.map(|tensor| (&*tensor.at, tensor)).collect();
        let is_of_model = |planned: &TensorPlan| planned.tensor.index() < model.tensors.len();
        match plan.tensors.iter().all(is_of_model) {
            true => Ok(Check {
                model,
                plan,
                by_path,
            }),
            false => Err(Error::Internal("the plan is not of this model")),
        }
    }

    fn found(&self, planned: &TensorPlan) -> Option<&'a Tensor> {
        let path = &self.model.tensors[planned.tensor.index()].path;
        self.by_path.get(path.as_str()).copied()
    }

    /// The tensor, as messages name it.
    fn tensor(&self, planned: &TensorPlan) -> String {
        let name = self.model.tensors[planned.tensor.index()].name;
        format!("tensor {:?}", excerpt(name))
    }

    fn encrypted_bytes(&self, planned: &TensorPlan) -> u64 {
        self.found(planned).map_or(0, Tensor::encrypted_bytes)
    }

    /// Too few bytes of a tensor are encrypted.
    fn few(&self, planned: &TensorPlan) -> Option<String> {
        let found = self.encrypted_bytes(planned);
        (found < planned.encrypted_bytes).then(|| {
            format!(
                "{} has {found} of {} bytes encrypted, expected at least {}",
                self.tensor(planned),
                planned.bytes,
                planned.encrypted_bytes
            )
        })
    }

    /// A tensor is cut into larger subsequences than planned: that many bytes cannot be the heaviest.
    fn coarse(&self, planned: &TensorPlan) -> Option<String> {
        let found = self.found(planned)?;
        let is_coarse =
            found.unit > planned.unit_elements && found.encrypted_bytes() < planned.bytes;
        is_coarse.then(|| {
            format!(
                "{} is cut into units of {} elements, expected {} at most",
                self.tensor(planned),
                found.unit,
                planned.unit_elements
            )
        })
    }

    /// Other elements are encrypted than those that are chosen.
    fn others(&self, planned: &TensorPlan) -> Option<String> {
        let (mut at, mut missing) = (0, 0u64);
        let mut found = self
            .found(planned)
            .into_iter()
            .flat_map(Tensor::encrypted_elements)
            .peekable();
        let n_elements = self.model.tensors[planned.tensor.index()].n_elements;
        for run in &planned.targets {
            let mut first = (at + run.skip) * planned.unit_elements;
            at += run.skip + run.take;
            let end = (at * planned.unit_elements).min(n_elements);
            while first < end {
                // The first range that does not end before what is looked for.
                while found
                    .next_if(|&(_, found_end)| found_end <= first)
                    .is_some()
                {}
                match found.peek() {
                    Some(&(start, found_end)) if start <= first => first = found_end,
                    next => {
                        let until = next.map_or(end, |&(start, _)| start.min(end));
                        missing += until - first;
                        first = until;
                    }
                }
            }
        }
        (missing > 0).then(|| {
            format!(
                "{}: {missing} elements that the policy chooses are in clear",
                self.tensor(planned)
            )
        })
    }

    fn with_violations(&self, policy: &Policy, found: &[String]) -> Vec<String> {
        let violations = self.plan.violations(self.model, policy);
        [list(&violations), list(found)].concat()
    }
}
