//! Whole plans: budgets, exceptions, tied weights.

use std::time::{Duration, Instant};

use onnxseal_plan::{Plan, Policy, Preset, Reason, Run};
use onnxseal_testkit::build::{
    GraphBuilder, floats_attribute, in_domain, node, node_with, weights,
};

use crate::common::{self, located};

/// Three MatMuls of 4, 64 and 64 KiB, each of rows of 256 bytes, and one Conv of 64 KiB.
pub fn layers() -> Vec<u8> {
    GraphBuilder::new("layers")
        .initializer(weights("small", &[16, 64], 0))
        .initializer(weights("middle", &[256, 64], 1))
        .initializer(weights("large", &[256, 64], 2))
        .initializer(weights("filters", &[256, 64], 3))
        .node(node("MatMul", &["x", "small"], &["a"]))
        .node(node("MatMul", &["a", "middle"], &["b"]))
        .node(node("MatMul", &["b", "large"], &["c"]))
        .node(node("Conv", &["c", "filters"], &["d"]))
        .encode()
}

fn policy(toml: &str) -> Policy {
    Policy::parse(toml).unwrap()
}

fn encrypted(plan: &Plan) -> Vec<u64> {
    plan.tensors
        .iter()
        .map(|tensor| tensor.encrypted_bytes)
        .collect()
}

#[test]
fn spread_fills_small_operators_and_passes_the_rest_on() {
    let bytes = layers();
    let plan = common::plan(
        &located(&bytes),
        &policy("strategy = \"spread\"\n[default]\ncoefficient = 0.25"),
    );
    // MatMul: B = 4096 + 2 * 65536 = 135168, budget 33792: level 11264 fills the first, and
    // (33792 - 4096) / 2 = 14848 are left for each of the others. Conv: 65536 / 4.
    assert_eq!(encrypted(&plan), [4096, 14848, 14848, 16384]);
    assert_eq!(plan.pools, []);
    // 14848 bytes are 58 of 256 subsequences of 64 floats. The middles of 256 / 58 = 4.41 each: 2,
    // 6, 11, 15, 19, ...
    let middle = &plan.tensors[1];
    assert_eq!((middle.unit_elements, middle.n), (64, 256));
    let first = [(2, 1), (3, 1), (4, 1), (3, 1), (3, 1)].map(|(skip, take)| Run { skip, take });
    assert_eq!(middle.targets[..5], first);
}

#[test]
fn spread_takes_the_same_share_of_each_tensor() {
    let bytes = GraphBuilder::new("biased")
        .initializer(weights("w", &[100, 640], 0))
        .initializer(weights("b", &[6400], 1))
        .initializer(weights("c", &[16], 2))
        .node(node("Gemm", &["x", "w", "b"], &["y"]))
        .node(node("Add", &["y", "c"], &["z"]))
        .encode();
    let model = located(&bytes);
    for percent in 1..100u64 {
        let coefficient = percent as f64 / 100.0;
        let toml = format!("strategy = \"spread\"\n[default]\ncoefficient = {coefficient}");
        let plan = common::plan(&model, &policy(&toml));
        for (tensor, n) in plan.tensors.iter().zip([1000, 100, 1]) {
            assert_eq!(tensor.n, n);
            let targets = tensor.targets.iter().map(|run| run.take).sum::<u64>();
            let even = (n * percent).div_ceil(100);
            assert!(targets.abs_diff(even) <= 1, "{targets}, not {even} of {n}");
        }
    }
}

#[test]
fn budgets_are_met_to_a_subsequence() {
    let bytes = layers();
    let model = located(&bytes);
    for percent in 0..=100u32 {
        let share = f64::from(percent) / 100.0;
        let toml = format!("strategy = \"spread\"\n[default]\ncoefficient = {share:?}");
        let plan = common::plan(&model, &policy(&toml));
        let [small, middle, large, filters] = encrypted(&plan)[..] else {
            panic!("{plan:?}")
        };
        for (bytes, found) in [(135_168.0, small + middle + large), (65536.0, filters)] {
            let budget = (share * bytes).round() as u64;
            assert!(
                (budget..budget + 256).contains(&found),
                "{found}, not {budget}"
            );
        }
    }
}

#[test]
fn overridden_operators_leave_their_types_budget() {
    let bytes = layers();
    let toml = "strategy = \"spread\"\n[default]\ncoefficient = 0.25\n\
                [[override]]\nnode = \"make_b\"\ncoefficient = 0.5\n\
                [[override]]\ninitializer = \"filters\"\ncoefficient = 0.75";
    let plan = common::plan(&located(&bytes), &policy(toml));
    // MatMul without make_b: 69632 / 4 = 17408: 4096 to the first, 13312 to the last.
    assert_eq!(encrypted(&plan), [4096, 32768, 13312, 49152]);
    let coefficients: Vec<f64> = plan.operators.iter().map(|o| o.coefficient).collect();
    assert_eq!(coefficients, [0.25, 0.5, 0.25, 0.25]);
}

#[test]
fn coefficient_zero_leaves_in_clear_and_says_so() {
    let bytes = layers();
    let toml = "strategy = \"spread\"\n[op.Conv]\ncoefficient = 0\n[[override]]\ninitializer = \"small\"\ncoefficient = 0";
    let model = located(&bytes);
    let plan = common::plan(&model, &policy(toml));
    let clear: Vec<_> = plan
        .clear
        .iter()
        .map(|c| (model.tensors[c.tensor.index()].name, &c.reason))
        .collect();
    assert_eq!(
        clear,
        [
            ("small", &Reason::ZeroCoefficient),
            ("filters", &Reason::ZeroCoefficient)
        ]
    );
    // The share is of all tensors.
    assert_eq!(plan.total_bytes(), 4096 + 3 * 65536);
    assert_eq!(plan.share(), 131072.0 / 200704.0);
}

#[test]
fn tied_weights_belong_to_the_highest_coefficient_and_count_once() {
    let bytes = GraphBuilder::new("tied")
        .initializer(weights("table", &[512, 64], 0))
        .node(node("Gather", &["table", "ids"], &["a"]))
        .node(node("Transpose", &["table"], &["table_t"]))
        .node(node("MatMul", &["a", "table_t"], &["b"]))
        .node(node("MatMul", &["b", "table_t"], &["c"]))
        .encode();
    let model = located(&bytes);
    let owner = |toml: &str| {
        let toml = format!("preset = \"balanced\"\n{toml}");
        let plan = common::plan(&model, &policy(&toml));
        assert_eq!(
            (plan.tensors.len(), plan.operators.len(), plan.total_bytes()),
            (1, 1, 131072)
        );
        assert_eq!(plan.consumers(plan.tensors[0].tensor).len(), 3);
        model.nodes[plan.operators[0].node.unwrap().index()]
            .name
            .to_owned()
    };
    assert_eq!(
        owner("strategy = \"spread\"\n[default]\ncoefficient = 0.2"),
        "make_a"
    );
    assert_eq!(owner("[op.MatMul]\ncoefficient = 0.5"), "make_b");
    assert_eq!(owner("[op.Gather]\ncoefficient = 0.2"), "make_a");
    assert_eq!(
        owner("[[override]]\nnode = \"make_c\"\ncoefficient = 0.9"),
        "make_c"
    );
}

#[test]
fn weights_of_unknown_operators_are_chosen_by_name() {
    let bytes = GraphBuilder::new("custom")
        .initializer(weights("mystery.weight", &[64, 64], 0))
        .initializer(weights("other", &[64, 64], 0))
        .initializer(onnxseal_testkit::build::int64s("shape", &[2], &[4, 4]))
        .node(in_domain(
            "my",
            node("Mystery", &["x", "mystery.weight", "other"], &["y"]),
        ))
        .node(node("Reshape", &["y", "shape"], &["z"]))
        .encode();
    let model = located(&bytes);
    let named = |preset, pattern| {
        let named = format!("[[override]]\ninitializer = \"{pattern}\"\ncoefficient = 0.5\n");
        common::plan(&model, &policy(&format!("preset = \"{preset}\"\n{named}")))
    };
    let plan = named("strong", "*.weight");
    assert_eq!((plan.operators.len(), plan.encrypted_bytes()), (1, 8192));
    // `full` takes the other one too.
    let full = named("full", "*.weight");
    assert_eq!(full.encrypted_bytes(), 8192 + 16384);
    // A pattern that matches everything still takes no shape for a weight.
    for preset in ["strong", "full"] {
        assert_eq!(named(preset, "*").encrypted_bytes(), 16384);
    }
}

/// Floats of an attribute, each with its tag before it, are cut as any others.
#[test]
fn attributes_are_planned_like_tensors() {
    let floats = [0.25; 640];
    let tree = node_with(
        "TreeEnsembleRegressor",
        &["x"],
        &["y"],
        vec![floats_attribute("nodes_values", &floats)],
    );
    let bytes = GraphBuilder::new("forest")
        .node(in_domain("ai.onnx.ml", tree))
        .encode();
    let plan = common::plan(
        &located(&bytes),
        &policy("strategy = \"spread\"\n[default]\ncoefficient = 0.1"),
    );
    let [tensor] = &plan.tensors[..] else {
        panic!("{plan:?}")
    };
    // 2560 bytes are 10 subsequences of 64 floats.
    assert_eq!(
        (tensor.unit_elements, tensor.n, tensor.encrypted_bytes),
        (64, 10, 256)
    );
}

#[test]
fn the_same_inputs_give_the_same_plan() {
    let bytes = layers();
    let model = located(&bytes);
    let toml =
        "[default]\ncoefficient = 0.3\n[[override]]\nnode = \"make_[bc]\"\ncoefficient = 0.5";
    let policy = policy(toml);
    let text = |plan: Plan| format!("{plan:?}");
    assert_eq!(
        text(common::plan(&model, &policy)),
        text(common::plan(&model, &policy))
    );
}

/// Linear in nodes: some 0.1 s on one core, far from the bound.
#[test]
fn a_hundred_thousand_nodes_are_planned_in_time() {
    const N: usize = 50_000;
    let mut graph = GraphBuilder::new("deep");
    for i in 0..N {
        let (weight, from, sum, to) = (
            format!("w{i}"),
            format!("x{i}"),
            format!("s{i}"),
            format!("x{}", i + 1),
        );
        graph = graph
            .initializer(weights(&weight, &[4, 16], 0))
            .node(node("MatMul", &[&from, &weight], &[&sum]))
            .node(node("Relu", &[&sum], &[&to]));
    }
    let bytes = graph.encode();
    let model = located(&bytes);
    let start = Instant::now();
    let plan = common::plan(&model, &Policy::preset(Preset::Balanced));
    let took = start.elapsed();
    println!("planned {} nodes in {took:?}", 2 * N);
    assert_eq!(plan.operators.len(), N);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// The manual's example is a policy, and its table has the presets' coefficients.
#[test]
fn the_manual_is_right() {
    let manual = include_str!("../../../../docs/POLICY.md");
    let example = manual
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let policy = policy(example);
    assert_eq!(policy.coefficient("", "Conv"), 0.3);
    assert_eq!(policy.coefficient("", "Gather"), 0.2);
    assert_eq!(policy.unit_bytes("", "Conv"), 256);
    for preset in Preset::ALL {
        let policy = Policy::preset(preset);
        let of = |op_type| policy.coefficient("", op_type);
        let row = format!(
            "| `{}` | {} |",
            preset.name(),
            ["LSTM", "Add", "Conv"]
                .map(|op_type| format!("{:?}", of(op_type)))
                .join(" | ")
        );
        assert!(manual.contains(&row), "no row {row}");
        assert_eq!(of("Add"), of("LayerNormalization"));
        assert_eq!(of("LSTM"), of("Gather"));
        assert_eq!(of("Conv"), of("MatMul"));
    }
}
