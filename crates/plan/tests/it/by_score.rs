//! Plans by score: pools, budgets, what is taken whole and why.

use onnxseal_onnx::model::Model;
use onnxseal_plan::{Error, Plan, Policy, Preset, Scores, Tier, Wanted, plan};
use onnxseal_testkit::build::{GraphBuilder, int64s, node, weights};

use crate::common::{self, located};

/// A Conv of 128 KiB, an LSTM of 64 KiB and a MatMul of 32 KiB, one after the other, and a bias.
fn mixed() -> Vec<u8> {
    GraphBuilder::new("mixed")
        .input("x", &[1, 128])
        .initializer(weights("filters", &[256, 128], 0))
        .initializer(weights("gates", &[1, 128, 128], 1))
        .initializer(weights("dense", &[64, 128], 2))
        .initializer(weights("bias", &[64], 3))
        .node(node("Conv", &["x", "filters"], &["a"]))
        .node(node("LSTM", &["a", "gates"], &["b"]))
        .node(node("MatMul", &["b", "dense"], &["c"]))
        .node(node("Add", &["c", "bias"], &["d"]))
        .encode()
}

/// Scores that are `by_tensor`, in the order of the tensors asked for, and fall within each.
fn falling(by_tensor: &[f64]) -> impl Fn(&[Wanted]) -> Result<Scores, Error> {
    move |wanted| {
        let of = wanted.iter().zip(by_tensor);
        Ok(of
            .map(|(tensor, score)| (0..tensor.n).map(|i| score / (i + 1) as f64).collect())
            .collect())
    }
}

const BALANCED: &str = "preset = \"balanced\"\n";

fn planned(model: &Model<'_>, policy: &str, by_tensor: &[f64]) -> Plan {
    let policy = Policy::parse(policy).unwrap();
    let plan = plan(model, &policy, falling(by_tensor)).unwrap();
    common::check(model, &plan);
    plan
}

fn encrypted(plan: &Plan) -> Vec<u64> {
    plan.tensors
        .iter()
        .map(|tensor| tensor.encrypted_bytes)
        .collect()
}

#[test]
fn one_budget_goes_to_the_heaviest_of_all_types() {
    let bytes = mixed();
    let model = located(&bytes);
    // 0.155 * (131072 + 32768) + 0.38 * 65536 = 50298.9, in units of 256 and 1024 bytes; the bias
    // is whole.
    let plan = planned(&model, BALANCED, &[1.0, 1.0, 1.0]);
    let pooled: u64 = encrypted(&plan)[..3].iter().sum();
    assert_eq!((pooled, encrypted(&plan)[3]), (50432, 256));
    assert_eq!(plan.pools.len(), 1);
    assert_eq!(
        (plan.pools[0].budget_bytes, &plan.pools[0].tensors[..]),
        (50299, &[0, 1, 2][..])
    );
    // Scores are weighed by the coefficients: 0.38 of the LSTM, 0.155 of the others.
    let [filters, gates, dense, _] = encrypted(&plan)[..] else {
        panic!()
    };
    assert!(
        gates > 3 * filters / 2 && filters.abs_diff(dense) <= 256,
        "{plan:?}"
    );
    // What weighs nothing gets nothing, until the rest is taken.
    assert_eq!(
        encrypted(&planned(&model, BALANCED, &[1.0, 0.0, 0.0]))[..3],
        [50432, 0, 0]
    );
    assert_eq!(
        encrypted(&planned(&model, BALANCED, &[0.0, 0.0, 1.0]))[2],
        32768
    );
}

#[test]
fn a_budget_is_a_share_of_all_and_coefficients_are_factors() {
    let bytes = mixed();
    let model = located(&bytes);
    // 5 % of 229632 bytes are 11482, 45 units.
    let plan = planned(&model, "unit = 256\nbudget = 0.05", &[1.0; 4]);
    assert_eq!(plan.encrypted_bytes(), 45 * 256);
    let none = planned(
        &model,
        "unit = 256\nbudget = 0.05\n[op.Conv]\ncoefficient = 0",
        &[1.0; 4],
    );
    assert_eq!(encrypted(&none)[0], 0);
    // Of what is left.
    assert_eq!(none.encrypted_bytes(), 20 * 256);
}

#[test]
fn a_preset_takes_small_models_whole_and_a_policys_own_coefficients_hold() {
    let graph = GraphBuilder::new("small")
        .initializer(weights("w", &[64, 64], 0))
        .node(node("Conv", &["x", "w"], &["y"]));
    let bytes = graph.encode();
    let model = located(&bytes);
    let plan = planned(&model, BALANCED, &[]);
    assert_eq!(encrypted(&plan), [16384]);
    assert!(plan.operators[0].whole);
    for (policy, expected) in [
        ("[op.Conv]\ncoefficient = 0.25", 4096),
        ("[default]\ncoefficient = 0.25", 4096),
        ("budget = 0.5", 8192),
        ("strategy = \"spread\"", 2560),
        ("[[override]]\nnode = \"make_y\"\ncoefficient = 0.5", 8192),
    ] {
        let policy = format!("{BALANCED}{policy}");
        assert_eq!(
            encrypted(&planned(&model, &policy, &[1.0])),
            [expected],
            "{policy}"
        );
    }
}

#[test]
fn scores_are_asked_for_only_where_there_is_a_choice() {
    let bytes = mixed();
    let model = located(&bytes);
    let never = |_: &[Wanted]| -> Result<Scores, Error> { panic!("asked") };
    let full = plan(&model, &Policy::preset(Preset::Full), never).unwrap();
    assert_eq!(full.share(), 1.0);
    let spread = Policy::parse("strategy = \"spread\"\npreset = \"balanced\"").unwrap();
    plan(&model, &spread, never).unwrap();
}

#[test]
fn scores_of_another_shape_are_refused_and_odd_ones_come_last() {
    let bytes = mixed();
    let model = located(&bytes);
    let policy = Policy::preset(Preset::Balanced);
    let few = |wanted: &[Wanted]| Ok::<_, Error>(vec![vec![1.0]; wanted.len()]);
    assert!(matches!(plan(&model, &policy, few), Err(Error::Scores)));
    let odd = planned(&model, BALANCED, &[f64::NAN, 1.0, f64::INFINITY]);
    // The LSTM in units of 1024 bytes.
    assert_eq!(encrypted(&odd)[..3], [0, 50 * 1024, 0]);
}

#[test]
fn units_are_as_the_policy_says() {
    let bytes = mixed();
    let model = located(&bytes);
    for unit in [64, 128, 256, 512, 1024] {
        let plan = planned(&model, &format!("{BALANCED}unit = {unit}"), &[1.0; 3]);
        assert_eq!(plan.tensors[0].unit_elements * 4, unit);
        assert_eq!(plan.tensors[0].n * unit, 131072);
    }
    for wrong in ["unit = 32", "unit = 2048", "unit = 100"] {
        assert!(Policy::parse(wrong).is_err(), "{wrong}");
    }
}

/// An edition without an index, a mask or a scale would not run: the first tier opens them.
#[test]
fn the_first_tier_opens_what_is_no_weight() {
    let bytes = GraphBuilder::new("editions")
        .initializer(weights("w", &[256, 128], 0))
        .initializer(int64s("indices", &[512], &[3; 512]))
        .initializer(weights("bound", &[64], 1))
        .initializer(weights("unread", &[64], 2))
        .node(node("Gather", &["x", "indices"], &["a"]))
        .node(node("Max", &["a", "bound"], &["b"]))
        .node(node("MatMul", &["b", "w"], &["c"]))
        .encode();
    let model = located(&bytes);
    let mut policy = Policy::preset(Preset::Full);
    let tier = |name: &str, share| Tier {
        name: name.to_owned(),
        share,
    };
    policy
        .set_tiers(vec![tier("trial", 0.5), tier("whole", 1.0)])
        .unwrap();
    let mut asked = Vec::new();
    let plan = plan(&model, &policy, |wanted| {
        asked.extend(wanted.iter().map(|wanted| wanted.tensor.index()));
        falling(&[1e-30])(wanted)
    })
    .unwrap();
    common::check(&model, &plan);
    assert_eq!((plan.share(), &asked[..]), (1.0, &[0][..]));
    let tiers = |index: usize| plan.tensors[index].tiers.iter().map(|run| run.tier);
    assert!(tiers(0).any(|tier| tier == 2));
    for index in 1..4 {
        assert!(tiers(index).eq([1]), "{index}");
    }
}
