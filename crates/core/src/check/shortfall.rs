//! Finds the demands of a policy that a protected model does not meet.

use std::collections::{BTreeMap, HashMap};

use onnxseal_onnx::{Model, excerpt};
use onnxseal_plan::{self as plan, Gap, Plan, Policy, Pool, Scores, TensorPlan, Violation, Wanted};

use crate::check::report::list;
use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, Tensor};

/// Lists the ways in which `manifest` encrypts less of `model` than `policy` demands.
///
/// If `is_scored`, the scores are known, from the policy's ranking or because `score` opens the model:
/// each subsequence that the policy chooses must be encrypted. Otherwise this checks the budgets of a
/// policy that chooses by score, its units, and the tensors it takes whole, but not whether the chosen
/// subsequences are the heaviest.
pub(crate) fn shortfalls(
    model: &Model<'_>,
    manifest: &Manifest,
    gaps: &[Gap],
    policy: &Policy,
    is_scored: bool,
    score: impl FnOnce(&[Wanted]) -> Result<Scores>,
) -> Result<Vec<String>> {
    let check = Check::new(model, manifest, gaps, plan::plan(model, policy, score)?)?;
    let (tensors, pools) = (&check.plan.tensors, &check.plan.pools);
    let mut found: Vec<String> = Vec::new();
    if is_scored {
        for planned in tensors {
            let others = || (!pools.is_empty()).then(|| check.others(planned)).flatten();
            found.extend(check.few(planned).or_else(others));
        }
    } else {
        let mut is_pooled = vec![false; tensors.len()];
        let pooled = pools.iter().flat_map(|pool| &pool.tensors);
        pooled.for_each(|&index| is_pooled[index] = true);
        for (planned, is_pooled) in tensors.iter().zip(is_pooled) {
            found.extend(match is_pooled {
                true => check.coarse(planned),
                false => check.few(planned),
            });
        }
        found.extend(pools.iter().filter_map(|pool| check.budget(pool)));
    }
    match names(manifest, policy) {
        Some(other) => found.push(other),
        None if is_scored => {
            found.extend((tensors.iter()).flat_map(|planned| check.lower(planned, policy)));
        }
        None => found.extend(shares(manifest, policy, check.first_tier_bytes())),
    }
    found.extend(lock(manifest, policy));
    Ok(check.with_violations(policy, &found))
}

/// Returns the shortfall if the model does not meet the policy's demand for or against the lock.
fn lock(manifest: &Manifest, policy: &Policy) -> Option<String> {
    let demanded = policy
        .lock()
        .filter(|demanded| *demanded != manifest.is_locked())?;
    let text = if demanded {
        "the model has no lock"
    } else {
        "the model has the lock, expected one that runs without the key"
    };
    Some(text.to_owned())
}

/// Returns the shortfall if the model's tiers differ from the policy's. A policy without tiers
/// accepts any.
fn names(manifest: &Manifest, policy: &Policy) -> Option<String> {
    let demanded: Vec<&str> = policy.tiers().iter().map(|tier| &*tier.name).collect();
    let found: Vec<&str> = manifest.tier_names().iter().map(|name| &**name).collect();
    let listed = |names: &[&str]| match names {
        [] => "no tiers".to_owned(),
        names => format!("tiers {}", names.join(", ")),
    };
    (!demanded.is_empty() && demanded != found).then(|| {
        format!(
            "the model has {}, expected {}",
            listed(&found),
            listed(&demanded)
        )
    })
}

/// Lists the tiers that open more of the encrypted bytes than their share, by more than a
/// subsequence. Each may open the `least` bytes, which the policy gives to the first.
fn shares(manifest: &Manifest, policy: &Policy, least: u64) -> Vec<String> {
    let mut of_tiers = vec![0; policy.tiers().len()];
    let mut largest = 0;
    for tensor in manifest.tensors() {
        largest = largest.max(tensor.unit.saturating_mul(tensor.data_type.bits().into()) / 8);
        tensor.add_tier_bytes(&mut of_tiers);
    }
    let total: u64 = of_tiers.iter().sum();
    let mut opened = 0;
    let tiers = policy.tiers().iter().zip(of_tiers);
    let too_many = tiers.filter_map(|(tier, bytes)| {
        opened += bytes;
        let expected = ((tier.share * total as f64).round() as u64).max(least);
        (opened > expected.saturating_add(largest)).then(|| {
            format!(
                "tier {:?} opens {opened} of {total} encrypted bytes, expected {expected}",
                tier.name
            )
        })
    });
    too_many.collect()
}

/// A plan, and what the manifest encrypts.
struct Check<'a> {
    model: &'a Model<'a>,
    plan: Plan,
    by_path: HashMap<&'a str, &'a Tensor>,
}

impl<'a> Check<'a> {
    fn new(
        model: &'a Model<'a>,
        manifest: &'a Manifest,
        gaps: &[Gap],
        mut plan: Plan,
    ) -> Result<Check<'a>> {
        plan.gaps = gaps.to_vec();
        let tensors = manifest.tensors().iter();
        let by_path = tensors.map(|tensor| (&*tensor.at, tensor)).collect();
        let is_of_model = |planned: &TensorPlan| planned.tensor.index() < model.tensors.len();
        if !plan.tensors.iter().all(is_of_model) {
            return Err(Error::Internal("the plan is not of this model"));
        }
        Ok(Check {
            model,
            plan,
            by_path,
        })
    }

    fn found(&self, planned: &TensorPlan) -> Option<&'a Tensor> {
        let path = &self.model.tensors[planned.tensor.index()].path;
        self.by_path.get(path.as_str()).copied()
    }

    fn tensor(&self, planned: &TensorPlan) -> String {
        let name = self.model.tensors[planned.tensor.index()].name;
        format!("tensor {:?}", excerpt(name))
    }

    fn encrypted_bytes(&self, planned: &TensorPlan) -> u64 {
        self.found(planned).map_or(0, Tensor::encrypted_bytes)
    }

    fn first_tier_bytes(&self) -> u64 {
        let tensors = self.plan.tensors.iter().map(|planned| {
            let of_first = self.elements(planned).filter(|(_, tier)| *tier == 1);
            let of_first: u64 = of_first.map(|((first, end), _)| end - first).sum();
            let n_elements = self.model.tensors[planned.tensor.index()].n_elements;
            let bytes = u128::from(of_first) * u128::from(planned.bytes);
            (bytes / u128::from(n_elements.max(1))) as u64
        });
        tensors.sum()
    }

    /// Returns the shortfall if too few bytes of a tensor are encrypted.
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

    /// Returns the shortfall if too few bytes of the tensors of `pool` are encrypted.
    fn budget(&self, pool: &Pool) -> Option<String> {
        let tensors = || (pool.tensors.iter()).map(|&index| &self.plan.tensors[index]);
        let found: u64 = tensors().map(|planned| self.encrypted_bytes(planned)).sum();
        let bytes: u64 = tensors().map(|planned| planned.bytes).sum();
        (found < pool.budget_bytes).then(|| {
            let which = match tensors().count() {
                1 => tensors()
                    .map(|planned| self.tensor(planned) + " has")
                    .collect(),
                n => format!("{n} tensors together have"),
            };
            let budget = pool.budget_bytes;
            format!("{which} {found} of {bytes} bytes encrypted, expected at least {budget}")
        })
    }

    /// Returns the shortfall if a tensor is cut into larger subsequences than planned, which cannot
    /// be the heaviest bytes.
    fn coarse(&self, planned: &TensorPlan) -> Option<String> {
        let found = self.found(planned)?;
        let is_coarse =
            found.unit > planned.unit_elements && found.encrypted_bytes() < planned.bytes;
        is_coarse.then(|| {
            format!(
                "{} is cut into units of {} elements, expected at most {}",
                self.tensor(planned),
                found.unit,
                planned.unit_elements
            )
        })
    }

    /// Returns the planned elements as `(first, end)`, each with the tier that should open it.
    fn elements(&self, planned: &TensorPlan) -> impl Iterator<Item = ((u64, u64), u8)> + use<> {
        let n = self.model.tensors[planned.tensor.index()].n_elements;
        let runs = planned.tier_elements().into_iter();
        runs.map(move |((first, end), tier)| ((first.min(n), end.min(n)), tier))
    }

    /// Counts the planned elements that are encrypted, by the tier that opens them and the tier that
    /// should.
    fn encrypted(&self, planned: &TensorPlan) -> BTreeMap<(u8, u8), u64> {
        let mut found = Vec::new();
        if let Some(tensor) = self.found(planned) {
            tensor.tier_elements(|run, tier| found.push((run, tier)));
        }
        let mut found = found.into_iter().peekable();
        let mut counts = BTreeMap::new();
        for ((first, end), tier) in self.elements(planned) {
            while let Some(&((start, found_end), of)) = found.peek() {
                let (from, until) = (start.max(first), found_end.min(end));
                if from < until {
                    *counts.entry((of, tier)).or_default() += until - from;
                }
                if found_end > end {
                    break;
                }
                found.next();
            }
        }
        counts
    }

    /// Returns the shortfall if an element that the policy chooses is in clear.
    fn others(&self, planned: &TensorPlan) -> Option<String> {
        let chosen: u64 = self
            .elements(planned)
            .map(|((first, end), _)| end - first)
            .sum();
        let missing = chosen - self.encrypted(planned).values().sum::<u64>();
        (missing > 0).then(|| {
            format!(
                "{}: {missing} elements that the policy chooses are in clear",
                self.tensor(planned)
            )
        })
    }

    /// Lists the elements of a tensor that a lower tier opens than the policy intends.
    fn lower(&self, planned: &TensorPlan, policy: &Policy) -> Vec<String> {
        if planned.tiers.is_empty() {
            return Vec::new();
        }
        let name = |tier: u8| {
            let tier = policy.tiers().get(usize::from(tier).saturating_sub(1));
            tier.map_or("", |tier| &*tier.name)
        };
        let counts = self.encrypted(planned).into_iter();
        let lower = counts.filter(|((of, tier), _)| of < tier);
        let told = lower.map(|((of, tier), n)| {
            format!(
                "{}: {n} elements are open to tier {:?}, but the policy gives them to {:?}",
                self.tensor(planned),
                name(of),
                name(tier)
            )
        });
        told.collect()
    }

    fn with_violations(&self, policy: &Policy, found: &[String]) -> Vec<String> {
        let mut violations = self.plan.violations(self.model, policy);
        // The model may encrypt what this policy would leave.
        let mut tensors = self.by_path.values();
        if tensors.any(|tensor| tensor.encrypted_bytes() > 0) {
            violations.retain(|violation| *violation != Violation::Nothing);
        }
        [list(&violations), list(found)].concat()
    }
}
