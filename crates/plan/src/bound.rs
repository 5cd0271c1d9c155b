//! Bounds the size of a plan from shapes alone, to estimate the memory for it.

use onnxseal_onnx::model::{Model, Payload};

use crate::op_types::OfOpTypes;
use crate::policy::Policy;
use crate::subsequence::MAX_UNITS;

/// The upper limits of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Subsequences that get a score; 0 if the plan needs no scores.
    pub units: u64,
    /// Runs of encrypted subsequences, and runs of those with the same tier.
    pub runs: u64,
}

/// Returns the most that a plan of `model` by `policy` can have, whatever the weights are. It makes
/// no plan: every tensor counts as a weight.
pub fn bound(model: &Model<'_>, policy: &Policy) -> Bound {
    let (mut n_tensors, mut bytes) = (0u64, 0u64);
    for tensor in &model.tensors {
        // A sparse file may claim more bytes than any disk has.
        if let Payload::Dense { span, .. } = &tensor.payload
            && (1..1 << 50).contains(&span.len)
        {
            n_tensors += 1;
            bytes = bytes.saturating_add(span.len);
        }
    }
    let share = largest_share(model, policy);
    let has_tiers = !policy.tiers().is_empty();
    if share == 0.0 && !has_tiers {
        // Each tensor is encrypted whole or not at all.
        return Bound {
            units: 0,
            runs: n_tensors,
        };
    }
    // The units of a ranking are never enlarged.
    let most = policy.ranking().map_or(MAX_UNITS, |_| u64::MAX);
    let whole = (bytes / policy.least_unit_bytes()).min(most);
    // Each tensor may end with a shorter unit, and each budget with a unit that exceeds it. If
    // every second unit is taken, each is a run.
    let taken = (share * whole as f64).ceil() as u64;
    let units = whole + n_tensors;
    // Tensors taken whole have tiers too, and any two neighbours may differ in theirs.
    let of_tiers = if has_tiers { units } else { 0 };
    Bound {
        units,
        runs: taken.min(whole.div_ceil(2)) + 2 * n_tensors + of_tiers,
    }
}

/// Returns the largest share below 1 that the policy takes of anything.
fn largest_share(model: &Model<'_>, policy: &Policy) -> f64 {
    let known = OfOpTypes::new(model);
    let nodes = model.nodes_with_ids();
    let of_types = nodes.filter_map(|(id, _)| {
        let share = known.get(id, |domain, op_type| policy.coefficient(domain, op_type));
        share.copied()
    });
    let of_names = policy.overrides.iter().map(|named| named.coefficient);
    let shares = of_types.chain(of_names).chain(policy.budget);
    shares.filter(|&share| share < 1.0).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use crate::error::Error;
    use crate::plan::{Plan, TensorPlan};
    use crate::planner::plan;
    use crate::policy::Preset;
    use crate::scores::{Scores, Wanted};

    /// Odd sizes, a tensor of less than a unit, a recurrent layer, and a tensor that is not a
    /// weight.
    fn model() -> Vec<u8> {
        let graph = GraphBuilder::new("g")
            .input("x", &[1, 200])
            .initializer(weights("w1", &[200, 300], 1))
            .initializer(weights("w2", &[300, 101], 2))
            .initializer(weights("b", &[101], 3))
            .initializer(weights("w", &[1, 400, 101], 4))
            .initializer(weights("r", &[1, 400, 100], 5))
            .initializer(weights("unused", &[77], 6))
            .node(node("Conv", &["x", "w1"], &["a"]))
            .node(node("Gemm", &["a", "w2", "b"], &["c"]))
            .node(node("LSTM", &["c", "w", "r"], &["d"]));
        graph.encode()
    }

    /// Scores every second unit above 0, which gives the most runs possible.
    fn alternating(wanted: &[Wanted]) -> Result<Scores, Error> {
        let of = |wanted: &Wanted| (0..wanted.n).map(|i| (i % 2) as f64).collect();
        Ok(wanted.iter().map(of).collect())
    }

    fn runs(plan: &Plan) -> u64 {
        let of = |tensor: &TensorPlan| (tensor.targets.len() + tensor.tiers.len()) as u64;
        plan.tensors.iter().map(of).sum()
    }

    #[test]
    fn no_plan_has_more() {
        let bytes = model();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let mut policies: Vec<Policy> = Preset::ALL.into_iter().map(Policy::preset).collect();
        for coefficient in [0.0, 0.01, 0.3, 0.5, 0.7, 0.99] {
            let default = format!("[default]\ncoefficient = {coefficient:?}\n");
            let budget = format!("budget = {coefficient:?}\n");
            let named = "[[override]]\ninitializer = \"w1\"\ncoefficient = 0.5\n";
            for text in [
                format!("unit = 64\n{default}"),
                format!("strategy = \"spread\"\n{default}"),
                budget.clone() + named,
                budget,
            ] {
                policies.push(Policy::parse(&text).unwrap());
            }
        }
        for preset in ["strong", "full"] {
            let tiers = "[[tier]]\nname = \"a\"\nshare = 0.5\n[[tier]]\nname = \"b\"\n";
            let text = format!("preset = \"{preset}\"\n{tiers}");
            policies.push(Policy::parse(&text).unwrap());
        }
        let mut tightest = u64::MAX;
        for policy in policies {
            let mut units = 0;
            let made = plan(&model, &policy, |wanted| {
                units = wanted.iter().map(|tensor| tensor.n).sum();
                alternating(wanted)
            });
            let (bound, runs) = (bound(&model, &policy), runs(&made.unwrap()));
            assert!(runs <= bound.runs, "{runs} runs, {bound:?} of {policy:?}");
            assert!(
                units <= bound.units,
                "{units} units, {bound:?} of {policy:?}"
            );
            if units > 1000 && runs > 0 {
                tightest = tightest.min(100 * bound.runs / runs);
            }
        }
        // The bound is tight: some plan comes near.
        assert!(tightest < 110, "{tightest} %");
    }

    #[test]
    fn what_is_taken_whole_needs_no_scores() {
        let bytes = model();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let whole = bound(&model, &Policy::preset(Preset::Full));
        assert_eq!(whole, Bound { units: 0, runs: 6 });
    }
}
