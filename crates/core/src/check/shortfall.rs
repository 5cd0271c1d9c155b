//! Finds the demands of a policy that a protected model does not meet.

use std::collections::{BTreeMap, HashMap};

use onnxseal_onnx::{Model, excerpt, model};
use onnxseal_plan::{self as plan, Gap, Policy, Scores, TensorPlan, Wanted};

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
    let mut plan = plan::plan(model, policy, score)?;
    plan.gaps = gaps.to_vec();
    let entries = manifest.tensors().iter();
    let entries: HashMap<&str, &Tensor> = entries.map(|tensor| (&*tensor.at, tensor)).collect();
    let pairs = plan.tensors.iter().map(|planned| {
        let tensor = model.tensors.get(planned.tensor.index())?;
        let entry = entries.get(tensor.path.as_str()).copied();
        Some(Pair {
            planned,
            tensor,
            entry,
        })
    });
    let pairs: Option<Vec<Pair<'_>>> = pairs.collect();
    let pairs = pairs.ok_or(Error::Internal("the plan is not of this model"))?;
    let mut found: Vec<String> = Vec::new();
    if is_scored {
        for pair in &pairs {
            let others = || (!plan.pools.is_empty()).then(|| pair.others()).flatten();
            found.extend(pair.few().or_else(others));
        }
    } else {
        let mut is_pooled = vec![false; pairs.len()];
        let pooled = plan.pools.iter().flat_map(|pool| &pool.tensors);
        pooled.for_each(|&index| is_pooled[index] = true);
        for (pair, is_pooled) in pairs.iter().zip(is_pooled) {
            found.extend(match is_pooled {
                true => pair.coarse(),
                false => pair.few(),
            });
        }
        for pool in &plan.pools {
            let of_pool: Vec<&Pair<'_>> = pool.tensors.iter().map(|&i| &pairs[i]).collect();
            found.extend(few(&of_pool, pool.budget_bytes));
        }
    }
    match names(manifest, policy) {
        Some(other) => found.push(other),
        None if is_scored => found.extend(pairs.iter().flat_map(|pair| pair.lower(manifest))),
        None => {
            let least = pairs.iter().map(Pair::first_tier_bytes).sum();
            found.extend(shares(manifest, policy, least));
        }
    }
    found.extend(lock(manifest, policy));
    // The model may encrypt what this policy would leave.
    let mut entries = entries.values();
    let encrypts = plan.encrypted_bytes() > 0 || entries.any(|entry| entry.encrypted_bytes() > 0);
    let violations = plan.violations(model, policy, encrypts);
    Ok([list(&violations), list(&found)].concat())
}

/// Returns the shortfall if the model does not meet the policy's demand for or against the lock.
fn lock(manifest: &Manifest, policy: &Policy) -> Option<String> {
    let text = match policy.lock()? {
        demanded if demanded == manifest.is_locked() => return None,
        true => "the model has no lock",
        false => "the model has the lock, expected one that runs without the key",
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

/// Returns the shortfall if fewer than the `least` bytes of some tensors are encrypted.
fn few(pairs: &[&Pair<'_>], least: u64) -> Option<String> {
    let found: u64 = pairs.iter().map(|pair| pair.encrypted_bytes()).sum();
    let bytes: u64 = pairs.iter().map(|pair| pair.planned.bytes).sum();
    (found < least).then(|| {
        let which = match pairs {
            [pair] => pair.name() + " has",
            several => format!("{} tensors together have", several.len()),
        };
        format!("{which} {found} of {bytes} bytes encrypted, expected at least {least}")
    })
}

/// A tensor of the graph, its plan, and its entry in the manifest.
struct Pair<'a> {
    planned: &'a TensorPlan,
    tensor: &'a model::Tensor<'a>,
    entry: Option<&'a Tensor>,
}

impl Pair<'_> {
    fn name(&self) -> String {
        format!("tensor {:?}", excerpt(self.tensor.name))
    }

    fn encrypted_bytes(&self) -> u64 {
        self.entry.map_or(0, Tensor::encrypted_bytes)
    }

    fn first_tier_bytes(&self) -> u64 {
        let of_first = self.elements().filter(|(_, tier)| *tier == 1);
        let of_first: u64 = of_first.map(|((first, end), _)| end - first).sum();
        let bytes = u128::from(of_first) * u128::from(self.planned.bytes);
        (bytes / u128::from(self.tensor.n_elements.max(1))) as u64
    }

    fn few(&self) -> Option<String> {
        few(&[self], self.planned.encrypted_bytes)
    }

    /// Returns the shortfall if a tensor is cut into larger subsequences than planned, which cannot
    /// be the heaviest bytes.
    fn coarse(&self) -> Option<String> {
        let (unit, most) = (self.entry?.unit, self.planned.unit_elements);
        (unit > most && self.encrypted_bytes() < self.planned.bytes).then(|| {
            let name = self.name();
            format!("{name} is cut into units of {unit} elements, expected at most {most}")
        })
    }

    /// Returns the planned elements as `(first, end)`, each with the tier that should open it.
    fn elements(&self) -> impl Iterator<Item = ((u64, u64), u8)> + use<> {
        let n = self.tensor.n_elements;
        let runs = self.planned.tier_elements().into_iter();
        runs.map(move |((first, end), tier)| ((first.min(n), end.min(n)), tier))
    }

    /// Counts the planned elements that are encrypted, by the tier that opens them and the tier that
    /// should.
    fn encrypted(&self) -> BTreeMap<(u8, u8), u64> {
        let mut found = Vec::new();
        if let Some(entry) = self.entry {
            entry.tier_elements(|run, tier| found.push((run, tier)));
        }
        let mut found = found.into_iter().peekable();
        let mut counts = BTreeMap::new();
        for ((first, end), tier) in self.elements() {
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
    fn others(&self) -> Option<String> {
        let chosen: u64 = self.elements().map(|((first, end), _)| end - first).sum();
        let missing = chosen - self.encrypted().values().sum::<u64>();
        (missing > 0).then(|| {
            let name = self.name();
            format!("{name}: {missing} elements that the policy chooses are in clear")
        })
    }

    /// Lists the elements of a tensor that a lower tier opens than the policy intends. Its tiers have
    /// the names of the policy's.
    fn lower(&self, manifest: &Manifest) -> Vec<String> {
        if self.planned.tiers.is_empty() {
            return Vec::new();
        }
        let counts = self.encrypted().into_iter();
        let lower = counts.filter(|((of, tier), _)| of < tier);
        let told = lower.map(|((of, tier), n)| {
            format!(
                "{}: {n} elements are open to tier {:?}, but the policy gives them to {:?}",
                self.name(),
                manifest.tier_name(of),
                manifest.tier_name(tier)
            )
        });
        told.collect()
    }
}
