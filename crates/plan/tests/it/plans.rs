//! Whole plans: budgets, exceptions, tied weights, demands.

use std::time::{Duration, Instant};

use onnxseal_onnx::model::PlainConstants;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_plan::{
    Demand, Override, Plan, Policy, Preset, Reason, Require, Run, Strategy, Target, Violation,
};
use onnxseal_testkit::build::{
    GraphBuilder, bare_tensor, floats_attribute, in_domain, ints_attribute, node, node_with,
    strings_attribute, weights,
};

use crate::common::{self, located};

/// Three MatMuls of 4, 64 and 64 KiB, each of rows of 256 bytes, and one Conv of 64 KiB.
fn layers() -> Vec<u8> {
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

fn volumes(plan: &Plan) -> Vec<u64> {
    plan.operators
        .iter()
        .map(|operator| operator.volume_bytes)
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
    assert_eq!(volumes(&plan), [4096, 14848, 14848, 16384]);
    // [256, 64] floats in rows of 256 bytes: 14848 / 256 = 58 of 256, evenly.
    let middle = &plan.tensors[1];
    assert_eq!(
        (middle.unit_elements, middle.n, middle.encrypted_bytes),
        (64, 256, 14848)
    );
    // The middles of 256 / 58 = 4.41 rows each: rows 2, 6, 11, 15, 19, ...
    let first = [(2, 1), (3, 1), (4, 1), (3, 1), (3, 1)].map(|(skip, take)| Run { skip, take });
    assert_eq!(middle.targets[..5], first);
    let [matmul, conv] = &plan.types[..] else {
        panic!("{:?}", plan.types)
    };
    assert_eq!((&*matmul.op_type, matmul.n_operators), ("MatMul", 3));
    assert_eq!(
        (matmul.bytes, matmul.budget_bytes, matmul.encrypted_bytes),
        (135168, 33792, 33792)
    );
    assert_eq!((&*conv.op_type, conv.budget_bytes), ("Conv", 16384));
}

#[test]
fn budgets_are_met_to_the_byte() {
    let bytes = layers();
    let model = located(&bytes);
    for percent in 0..=100u32 {
        let share = f64::from(percent) / 100.0;
        let mut policy = Policy::default();
        policy.set_default(share).unwrap();
        policy.set_strategy(Strategy::Spread);
        let plan = common::plan(&model, &policy);
        for row in &plan.types {
            assert_eq!(row.budget_bytes, (share * row.bytes as f64).round() as u64);
            // At most one subsequence of 256 bytes more for each tensor.
            assert!(row.encrypted_bytes >= row.budget_bytes);
            assert!(row.encrypted_bytes < row.budget_bytes + 256 * row.n_operators);
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
    assert_eq!(volumes(&plan), [4096, 32768, 13312, 49152]);
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
    // It still counts as weights.
    assert_eq!(plan.weight_bytes(), 4096 + 3 * 65536);
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
            (
                plan.tensors.len(),
                plan.operators.len(),
                plan.weight_bytes()
            ),
            (1, 1, 131072)
        );
        assert_eq!(plan.consumers(plan.tensors[0].tensor).len(), 3);
        model.nodes[plan.operators[0].node.index()].name.to_owned()
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
    let named = |pattern| {
        let mut policy = Policy::default();
        policy.add_override(Override::new(Target::Initializer, pattern, 0.5).unwrap());
        common::plan(&model, &policy)
    };
    let plan = named("*.weight");
    assert_eq!(plan.operators.len(), 1);
    assert_eq!(plan.operators[0].op_type, "my.Mystery");
    assert_eq!(
        (plan.operators[0].volume_bytes, plan.encrypted_bytes()),
        (8192, 8192)
    );
    // A pattern that matches everything still takes no shape for a weight.
    assert_eq!(named("*").encrypted_bytes(), 16384);
}

/// Floats and quantised values for operators that take no weights: in clear, but what demands rules
/// for all finds them.
#[test]
fn floats_of_operators_without_weights_are_findings() {
    let bytes = GraphBuilder::new("bounds")
        .initializer(weights("bound", &[4, 4], 0))
        .initializer(weights("short", &[15], 0))
        .initializer(bare_int8("mask", 64))
        .initializer(weights("added", &[4, 4], 0))
        .node(node("Max", &["x", "bound"], &["a"]))
        .node(node("Identity", &["bound"], &["same"]))
        .node(node("Where", &["mask", "same", "a"], &["b"]))
        .node(node("Min", &["b", "short", "added"], &["c"]))
        .node(node("Add", &["c", "added"], &["d"]))
        .encode();
    let model = located(&bytes);
    let mut policy = Policy::preset(Preset::Full);
    policy
        .set_require(Require {
            unknown_op: Demand::Error,
            ..policy.require()
        })
        .unwrap();
    let violations = |policy: &Policy| -> Vec<String> {
        let violations = common::plan(&model, policy).violations(&model, policy);
        violations.iter().map(Violation::to_string).collect()
    };
    assert_eq!(
        violations(&policy),
        [
            "\"bound\" (graph.initializer[0]) may be a weight: \
             weights are unusual in Max, Where",
            "\"mask\" (graph.initializer[2]) may be a weight: \
             weights are unusual in Where"
        ]
    );
    // An override settles it, either way.
    for (coefficient, encrypted) in [(0.0, 64), (1.0, 192)] {
        let mut policy = policy.clone();
        policy.add_override(Override::new(Target::Initializer, "*", coefficient).unwrap());
        assert_eq!(violations(&policy), Vec::<String>::new());
        policy.add_override(Override::new(Target::Initializer, "added", 1.0).unwrap());
        assert_eq!(common::plan(&model, &policy).encrypted_bytes(), encrypted);
    }
}

fn bare_int8(name: &str, n: usize) -> onnxseal_onnx::proto::TensorProto {
    onnxseal_testkit::build::raw_tensor(name, DataType::Int8, &[n as i64], vec![1; n])
}

#[test]
fn demands_turn_reports_into_violations() {
    let varints = onnxseal_onnx::proto::TensorProto {
        int32_data: vec![1; 64],
        ..bare_tensor("varints", DataType::Int8, &[8, 8])
    };
    let bytes = GraphBuilder::new("demanding")
        .initializer(varints)
        .initializer(weights("mystery", &[8, 8], 0))
        .initializer(weights("w", &[4, 4], 0))
        .node(node("MatMulInteger", &["x", "varints"], &["a"]))
        .node(node("Conv", &["x", "w"], &["b"]))
        .node(in_domain("my", node("Mystery", &["mystery"], &["c"])))
        .encode();
    let model = located(&bytes);
    let mut policy = Policy::preset(Preset::Full);
    let plan = common::plan(&model, &policy);
    assert_eq!(plan.violations(&model, &policy), []);
    assert_eq!((plan.weight_bytes(), plan.encrypted_bytes()), (128, 64));
    let require = |unpatchable, unknown_op, min_share| Require {
        unpatchable,
        unknown_op,
        min_share,
        ..Require::default()
    };
    let mut told = |demand: Require| {
        policy.set_require(demand).unwrap();
        let violations = plan.violations(&model, &policy);
        violations
            .iter()
            .map(Violation::to_string)
            .collect::<Vec<_>>()
    };
    let [unpatchable] = &told(require(Demand::Error, Demand::Report, 0.5))[..] else {
        panic!()
    };
    assert_eq!(
        unpatchable,
        "weight \"varints\" (graph.initializer[0]) cannot be encrypted: \
         its elements are varints (int32_data), which change length"
    );
    let [unknown] = &told(require(Demand::Report, Demand::Error, 0.0))[..] else {
        panic!()
    };
    assert_eq!(
        unknown,
        "\"mystery\" (graph.initializer[1]) may be a weight: no rule says what my.Mystery does with it"
    );
    let [share] = &told(require(Demand::Report, Demand::Report, 0.6))[..] else {
        panic!()
    };
    assert_eq!(
        share,
        "50.0 % of the weights are encrypted, at least 60.0 % are demanded"
    );
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
    // 640 groups of one float: 16 make 64 bytes; 256 bytes of 2560 are 4 of 40.
    assert_eq!(
        (tensor.unit_elements, tensor.n, tensor.encrypted_bytes),
        (16, 40, 256)
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

/// The table of docs/POLICY.md, in its order.
#[test]
fn what_full_leaves_in_clear() {
    let raw = |name: &str, data_type, dims: &[i64], bytes| {
        onnxseal_testkit::build::raw_tensor(name, data_type, dims, vec![1; bytes])
    };
    let varints = onnxseal_onnx::proto::TensorProto {
        int32_data: vec![1; 64],
        ..bare_tensor("varints", DataType::Int8, &[8, 8])
    };
    let strings = onnxseal_onnx::proto::TensorProto {
        string_data: vec![b"word".to_vec(); 32],
        ..bare_tensor("strings", DataType::String, &[32])
    };
    let bytes = GraphBuilder::new("clear")
        .initializer(varints)
        .initializer(weights("mystery", &[16], 0))
        .initializer(weights("unread", &[16], 0))
        .initializer(weights("chosen", &[16], 0))
        .initializer(weights("few", &[15], 0))
        .initializer(weights("few_rows", &[15], 0))
        .initializer(weights("few_data", &[15], 0))
        .initializer(weights("few_mystery", &[15], 0))
        .initializer(raw("quantised", DataType::Int8, &[16, 4], 64))
        .initializer(weights("scales", &[16], 0))
        .initializer(raw("zero_points", DataType::Int8, &[16], 16))
        .initializer(weights("state", &[1, 16, 16], 0))
        .initializer(raw("int64", DataType::Int64, &[32], 256))
        .initializer(raw("uint32", DataType::Uint32, &[32], 128))
        .initializer(raw("bool", DataType::Bool, &[32], 32))
        .initializer(strings)
        .initializer(raw("rows", DataType::Int32, &[32, 2], 256))
        // What is encrypted beside them.
        .initializer(weights("table", &[16], 0))
        .initializer(weights("data", &[1, 16], 0))
        .node(node("MatMulInteger", &["x", "varints"], &[]))
        .node(in_domain(
            "my",
            node("Mystery", &["mystery", "few_mystery"], &[]),
        ))
        .node(node("Where", &["c", "chosen", "x"], &[]))
        .node(node("Add", &["x", "few"], &[]))
        .node(node("Gather", &["few_rows", "i"], &[]))
        .node(node("Conv", &["few_data", "w"], &[]))
        .node(node(
            "DequantizeLinear",
            &["quantised", "scales", "zero_points"],
            &["q"],
        ))
        .node(node("Gemm", &["x", "q"], &[]))
        .node(node("LSTM", &["x", "w", "r", "b", "", "state"], &[]))
        .node(node("Gather", &["int64", "i"], &[]))
        .node(node("Gather", &["uint32", "i"], &[]))
        .node(node("Gather", &["bool", "i"], &[]))
        .node(node("Gather", &["strings", "i"], &[]))
        .node(node("Gather", &["rows", "i"], &[]))
        .node(node("Gather", &["table", "i"], &[]))
        .node(node("Conv", &["data", "w"], &[]))
        .node(node_with(
            "Constant",
            &[],
            &["floats"],
            vec![floats_attribute("value_floats", &[0.5; 16])],
        ))
        .node(node_with(
            "Constant",
            &[],
            &["one"],
            vec![floats_attribute("value_floats", &[0.5])],
        ))
        .node(node_with(
            "Constant",
            &[],
            &["ints"],
            vec![ints_attribute("value_ints", &[1, 2, 3])],
        ))
        .node(node_with(
            "Constant",
            &[],
            &["text"],
            vec![strings_attribute("value_strings", &["ab"])],
        ))
        .node(node_with(
            "Transpose",
            &["x"],
            &[],
            vec![ints_attribute("perm", &[1, 0])],
        ))
        .node(node("Add", &["x", "floats"], &[]))
        .encode();
    let model = located(&bytes);
    let mut policy = Policy::preset(Preset::Full);
    policy
        .set_require(Require {
            unpatchable: Demand::Error,
            unknown_op: Demand::Error,
            ..Require::default()
        })
        .unwrap();
    let plan = common::plan(&model, &policy);
    let clear: Vec<&str> = (plan.clear.iter())
        .map(|clear| model.tensors[clear.tensor.index()].name)
        .collect();
    let expected = [
        "varints",
        "mystery",
        "unread",
        "chosen",
        "few",
        "few_rows",
        "few_data",
        "few_mystery",
        "scales",
        "zero_points",
        "state",
        "int64",
        "uint32",
        "bool",
        "strings",
        "rows",
    ];
    assert_eq!(clear, expected);
    let PlainConstants { n, bytes } = model.plain_constants;
    assert_eq!((n, bytes), (3, 5 + 6 + 4));
    let violations = plan.violations(&model, &policy);
    let counted: Vec<&str> = (violations.iter())
        .map(|violation| match violation {
            Violation::Unpatchable { name, .. } | Violation::UnknownOperator { name, .. } => name,
            other => panic!("{other:?}"),
        })
        .map(String::as_str)
        .collect();
    assert_eq!(counted, ["varints", "mystery", "unread", "chosen"]);
}

/// Another reader, one that takes no weights where they arrive, does not make them harmless.
#[test]
fn harmless_readers_hide_nothing() {
    let quantised =
        onnxseal_testkit::build::raw_tensor("quantised", DataType::Int8, &[8, 8], vec![1; 64]);
    let bytes = GraphBuilder::new("hidden")
        .initializer(weights("w", &[8, 8], 0))
        .initializer(weights("mask", &[8, 8], 1))
        .initializer(quantised)
        .initializer(weights("scale", &[1], 2))
        .node(node("Relu", &["w"], &["r"]))
        .node(node("MatMul", &["x", "r"], &["y"]))
        .node(node("CastLike", &["x", "w"], &["like"]))
        .node(node("CastLike", &["x", "mask"], &["like2"]))
        .node(node("Where", &["c", "mask", "x"], &["where"]))
        .node(node("DequantizeLinear", &["quantised", "scale"], &["q"]))
        .node(node("Relu", &["q"], &["rq"]))
        .node(node("MatMul", &["x", "rq"], &["z"]))
        .encode();
    let model = located(&bytes);
    let mut policy = Policy::preset(Preset::Full);
    let unknown_op = Demand::Error;
    policy
        .set_require(Require {
            unknown_op,
            ..Require::default()
        })
        .unwrap();
    let violations = common::plan(&model, &policy).violations(&model, &policy);
    let names = violations.iter().map(|violation| match violation {
        Violation::UnknownOperator { name, .. } => name.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["w", "mask", "quantised"]);
}

#[test]
fn entries_that_match_nothing_are_violations() {
    let bytes = layers();
    let model = located(&bytes);
    let told = |toml: &str| {
        let policy = policy(toml);
        let violations = common::plan(&model, &policy).violations(&model, &policy);
        violations
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    for preset in Preset::ALL {
        let policy = Policy::preset(preset);
        let plan = common::plan(&model, &policy);
        assert_eq!(plan.violations(&model, &policy), []);
    }
    let matching = "[op.Conv]\ncoefficient = 0.5\n[op.\"ai.onnx.MatMul\"]\ncoefficient = 0.5\n\
                    [[override]]\nnode = \"make_?\"\ncoefficient = 0.0\n\
                    [[override]]\nnode = \"make_b\"\ncoefficient = 0.0\n\
                    [[override]]\ninitializer = \"*\"\ncoefficient = 1.0\n";
    assert_eq!(told(matching), [""; 0]);
    let others = "[op.ConvTranspose]\ncoefficient = 0.5\n[op.LSTM]\ncoefficient = 0.5\n\
                  [[override]]\nnode = \"makeb\"\ncoefficient = 0.0\n\
                  [[override]]\ninitializer = \"filter\"\ncoefficient = 1.0\n\
                  [[override]]\ninitializer = \"head.*\"\ncoefficient = 1.0\n";
    assert_eq!(
        told(others),
        [
            "the coefficient of ConvTranspose matches nothing in the model: did you mean \"Conv\"?",
            "the coefficient of LSTM matches nothing in the model",
            "the override of node \"makeb\" matches nothing in the model: did you mean \"make_b\"?",
            "the override of initializer \"filter\" matches nothing in the model: did you mean \"filters\"?",
            "the override of initializer \"head.*\" matches nothing in the model",
        ]
    );
    let allowed = format!("{others}[require]\nunmatched = \"report\"\n");
    assert_eq!(told(&allowed), [""; 0]);
}

#[test]
fn violations_do_not_repeat_long_names() {
    let long = "n".repeat(1 << 20);
    let bytes = GraphBuilder::new("long")
        .initializer(weights(&long, &[16], 0))
        .node(in_domain("my", node(&long, &[&long], &["y"])))
        .encode();
    let model = located(&bytes);
    let policy = policy("[require]\nunknown_op = \"error\"");
    let violations = common::plan(&model, &policy).violations(&model, &policy);
    let told: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].len() < 1000, "{}", told.len());
}
