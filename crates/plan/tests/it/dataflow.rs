//! Weights found where they really stand, and files that mean to mislead.

use std::time::{Duration, Instant};

use onnxseal_onnx::model::TensorRole;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{GraphProto, ModelProto, NodeProto, SparseTensorProto};
use onnxseal_plan::{Policy, Preset, Reason, classify};
use onnxseal_testkit::build::{
    GraphBuilder, bare_tensor, constant, floats_attribute, function, graph_attribute, in_domain,
    int64s, node, node_with, opset, weights,
};
use prost::Message;

use crate::common::{self, located, readers, reason};

fn conv(weight: &str, output: &str) -> NodeProto {
    node("Conv", &["x", weight], &[output])
}

#[test]
fn quantised_weights_reach_their_operators() {
    let bytes = GraphBuilder::new("qdq")
        .initializer(weights("w", &[8, 8], 0))
        .initializer(weights("w_scale", &[8], 1))
        .initializer(weights("b", &[8], 2))
        .node(node("DequantizeLinear", &["w", "w_scale"], &["w_float"]))
        .node(node("Transpose", &["w_float"], &["w_t"]))
        .node(node("DequantizeLinear", &["b", "w_scale"], &["b_float"]))
        .node(node("Gemm", &["x", "w_t", "b_float"], &["y"]))
        .encode();
    let model = located(&bytes);
    assert_eq!(readers(&model, "w"), ["Gemm[1]"]);
    assert_eq!(readers(&model, "b"), ["Gemm[2]"]);
    assert_eq!(
        readers(&model, "w_scale"),
        ["DequantizeLinear[1]", "DequantizeLinear[1]"]
    );
    assert_eq!(reason(&model, "w"), None);
    assert!(matches!(
        reason(&model, "w_scale"),
        Some(Reason::NotAWeight { .. })
    ));
}

#[test]
fn names_resolve_outwards_and_inner_ones_hide_outer_ones() {
    let branch = |own: bool| {
        let graph = GraphBuilder::new("branch")
            .node(conv("w", "branch_y"))
            .output("branch_y", &[]);
        let graph = if own {
            graph.initializer(weights("w", &[4, 4], 5))
        } else {
            graph
        };
        graph.graph()
    };
    let branches = vec![
        graph_attribute("then_branch", branch(true)),
        graph_attribute("else_branch", branch(false)),
    ];
    let bytes = GraphBuilder::new("main")
        .initializer(weights("w", &[8, 4], 0))
        .node(node_with("If", &["cond"], &["y"], branches))
        .encode();
    let model = located(&bytes);
    let known = classify(&model);
    for (tensor, known) in model.tensors.iter().zip(&known) {
        let [consumer] = known.consumers[..] else {
            panic!("{} has {known:?}", tensor.path)
        };
        let reader = &model.graphs[model.nodes[consumer.node.index()].graph.index()];
        let onnxseal_onnx::model::GraphOwner::Node { attribute, .. } = reader.owner else {
            panic!("{} is not read in a branch", tensor.path)
        };
        let hidden_by_inner = if tensor.path.contains("attribute") {
            "then_branch"
        } else {
            "else_branch"
        };
        assert_eq!(attribute, hidden_by_inner, "{}", tensor.path);
    }
}

#[test]
fn constants_leave_branches_by_position() {
    let branch = |name: &str| {
        let other = format!("{name}_other");
        GraphBuilder::new(name)
            .node(constant(weights(&other, &[4, 4], 1)))
            .node(constant(weights(name, &[8, 4], 0)))
            .output(&other, &[])
            .output(name, &[])
            .graph()
    };
    let branches = vec![
        graph_attribute("then_branch", branch("a")),
        graph_attribute("else_branch", branch("b")),
    ];
    let bytes = GraphBuilder::new("main")
        .node(node_with("If", &["cond"], &["unused", "w"], branches))
        .node(conv("w", "y"))
        .encode();
    let model = located(&bytes);
    assert_eq!(readers(&model, "a"), ["Conv[1]"]);
    assert_eq!(readers(&model, "b"), ["Conv[1]"]);
    assert_eq!(reason(&model, "a_other"), Some(Reason::Unconsumed));
}

#[test]
fn loops_and_scans_take_weights_in_by_position() {
    let body = GraphBuilder::new("body")
        .input("i", &[])
        .input("go", &[])
        .input("inner_w", &[])
        .node(node("Identity", &["go"], &["go_on"]))
        .node(conv("inner_w", "inner_y"))
        .output("go_on", &[])
        .output("inner_w", &[])
        .output("inner_y", &[])
        .graph();
    let scan_body = GraphBuilder::new("scan")
        .input("state", &[])
        .input("element", &[])
        .node(node("Gemm", &["state", "element"], &["state_out"]))
        .output("state_out", &[])
        .graph();
    let bytes = GraphBuilder::new("main")
        .initializer(weights("w", &[8, 4], 0))
        .initializer(weights("scanned", &[8, 4], 0))
        .initializer(int64s("trips", &[1], &[3]))
        .node(node_with(
            "Loop",
            &["trips", "", "w"],
            &["w_after", "ys"],
            vec![graph_attribute("body", body)],
        ))
        .node(node("MatMul", &["x", "w_after"], &["z"]))
        .node(node_with(
            "Scan",
            &["s", "scanned"],
            &["s_out"],
            vec![graph_attribute("body", scan_body)],
        ))
        .encode();
    let model = located(&bytes);
    assert_eq!(readers(&model, "w"), ["Conv[1]", "MatMul[1]"]);
    assert_eq!(readers(&model, "scanned"), ["Gemm[1]"]);
    assert_eq!(readers(&model, "trips"), ["Loop[0]"]);
}

/// A model with functions.
fn with_functions(
    graph: GraphBuilder,
    functions: Vec<onnxseal_onnx::proto::FunctionProto>,
) -> Vec<u8> {
    let mut model: ModelProto = graph.model();
    model.opset_import.push(opset("my", 1));
    model.functions = functions;
    model.encode_to_vec()
}

/// One helper function called for every weight, as exports of `x.t()` do: each weight comes out
/// where it went in.
#[test]
fn functions_return_to_their_caller() {
    let transpose = function(
        "my",
        "t",
        &["v"],
        &["v_t"],
        vec![node("Transpose", &["v"], &["v_t"])],
    );
    let linear = function(
        "my",
        "linear",
        &["v", "weight"],
        &["out"],
        vec![
            in_domain("my", node("t", &["weight"], &["weight_t"])),
            node("MatMul", &["v", "weight_t"], &["out"]),
            // A name from outside is not visible here.
            node("Conv", &["v", "hidden"], &["unused"]),
        ],
    );
    let graph = GraphBuilder::new("main")
        .initializer(weights("a", &[8, 4], 0))
        .initializer(weights("b", &[8, 4], 1))
        .initializer(weights("c", &[8, 4], 2))
        .initializer(weights("hidden", &[8, 4], 3))
        .node(in_domain("my", node("t", &["a"], &["a_t"])))
        .node(in_domain("my", node("t", &["b"], &["b_t"])))
        .node(node("Gemm", &["x", "a_t"], &["y"]))
        .node(conv("b_t", "z"))
        .node(in_domain("my", node("linear", &["y", "c"], &["u"])));
    let bytes = with_functions(graph, vec![transpose, linear]);
    let model = located(&bytes);
    assert_eq!(readers(&model, "a"), ["Gemm[1]"]);
    assert_eq!(readers(&model, "b"), ["Conv[1]"]);
    assert_eq!(readers(&model, "c"), ["MatMul[1]"]);
    assert_eq!(reason(&model, "hidden"), Some(Reason::Unconsumed));
}

#[test]
fn constants_of_functions_go_to_every_caller() {
    let source = function(
        "my",
        "source",
        &[],
        &["w"],
        vec![constant(weights("w", &[8, 4], 0))],
    );
    let graph = GraphBuilder::new("main")
        .node(in_domain("my", node("source", &[], &["w1"])))
        .node(in_domain("my", node("source", &[], &["w2"])))
        .node(conv("w1", "y"))
        .node(node("MatMul", &["y", "w2"], &["z"]));
    let bytes = with_functions(graph, vec![source]);
    assert_eq!(readers(&located(&bytes), "w"), ["Conv[1]", "MatMul[1]"]);
}

#[test]
fn floats_of_constant_nodes_are_values() {
    let floats = vec![floats_attribute("value_floats", &[0.5; 32])];
    let bytes = GraphBuilder::new("main")
        .node(node_with("Constant", &[], &["bias"], floats))
        .node(node("Gemm", &["x", "y", "bias"], &["z"]))
        .encode();
    assert_eq!(readers(&located(&bytes), "bias"), ["Gemm[2]"]);
}

#[test]
fn sparse_values_are_weights_and_their_indices_are_not() {
    let mut model = GraphBuilder::new("main")
        .node(node("MatMul", &["x", "w"], &["y"]))
        .model();
    let graph: &mut GraphProto = model.graph.as_mut().unwrap();
    graph.sparse_initializer.push(SparseTensorProto {
        values: Some(weights("w", &[32], 0)),
        indices: Some(int64s("", &[32], &[3; 32])),
        dims: vec![64, 64],
    });
    let bytes = model.encode_to_vec();
    let model = located(&bytes);
    for (tensor, known) in model.tensors.iter().zip(classify(&model)) {
        match tensor.place {
            TensorRole::SparseValues => assert_eq!(known.reason, None),
            place => {
                assert_eq!(place, TensorRole::SparseIndices);
                assert_eq!(known.reason, Some(Reason::SparseIndices));
            }
        }
    }
}

#[test]
fn old_models_that_list_weights_as_inputs_are_no_different() {
    let bytes = GraphBuilder::new("main")
        .input("x", &[1, 4])
        .input("w", &[8, 4])
        .initializer(weights("w", &[8, 4], 0))
        .node(conv("w", "y"))
        .encode();
    assert_eq!(readers(&located(&bytes), "w"), ["Conv[1]"]);
}

#[test]
fn every_reason_is_told() {
    let int32_data = onnxseal_onnx::proto::TensorProto {
        int32_data: vec![1; 64],
        ..bare_tensor("varints", DataType::Int8, &[8, 8])
    };
    let bytes = GraphBuilder::new("main")
        .initializer(int32_data)
        .initializer(weights("alone", &[8, 4], 0))
        .initializer(weights("nothing", &[0, 4], 0))
        .initializer(weights("mystery", &[8, 4], 0))
        .initializer(weights("epsilon", &[1], 0))
        .initializer(int64s("shape", &[2], &[4, 4]))
        .node(node("MatMulInteger", &["x", "varints"], &["a"]))
        .node(node("Conv", &["x", "nothing"], &["b"]))
        .node(in_domain(
            "my",
            node_with(
                "Mystery",
                &["mystery"],
                &["c"],
                vec![floats_attribute("f", &[0.5; 40])],
            ),
        ))
        .node(node("Add", &["x", "epsilon"], &["d"]))
        .node(node("Reshape", &["x", "shape"], &["e"]))
        .encode();
    let model = located(&bytes);
    let told = |name| reason(&model, name).unwrap().to_string();
    assert_eq!(
        told("varints"),
        "its elements are varints (int32_data), which change length"
    );
    assert_eq!(told("alone"), "no operator reads it");
    assert_eq!(told("nothing"), "it has no elements");
    assert_eq!(told("mystery"), "no rule says what my.Mystery does with it");
    assert_eq!(told("f"), "no rule says what my.Mystery does with it");
    assert_eq!(
        told("epsilon"),
        "Add reads fewer than 16 elements, too few to be learnt"
    );
    assert_eq!(told("shape"), "elements of type INT64 are never weights");
}

/// ONNX Runtime runs the operator, others may run the function: what either uses as weights is one.
#[test]
fn a_function_with_an_operators_name_hides_no_weights() {
    for (domain, op_type, overload) in [
        ("", "MatMul", ""),
        ("ai.onnx", "MatMul", ""),
        ("", "MatMul", "other"),
        ("com.microsoft", "FusedMatMul", ""),
        ("", "Gather", ""),
    ] {
        let mut negate = function(
            domain,
            op_type,
            &["a", "b"],
            &["c"],
            vec![node("Neg", &["a"], &["c"]), node("Conv", &["x", "b"], &[])],
        );
        negate.overload = Some(overload.into());
        let mut call = in_domain(domain, node(op_type, &["w", "filter"], &["y"]));
        call.overload = Some(overload.into());
        let graph = GraphBuilder::new("main")
            .initializer(weights("w", &[8, 4], 0))
            .initializer(weights("filter", &[8, 4], 1))
            .node(call);
        let bytes = with_functions(graph, vec![negate]);
        let model = located(&bytes);
        assert_eq!(reason(&model, "w"), None, "{domain} {op_type}");
        assert_eq!(reason(&model, "filter"), None, "{domain} {op_type}");
        assert!(readers(&model, "filter").contains(&"Conv[1]".to_owned()));
    }
    // Where a runtime may have an operator that no rule is about, it may be a weight.
    let identity = |domain: &str| {
        let body = vec![node("Identity", &["a"], &["b"])];
        let graph = GraphBuilder::new("main")
            .initializer(weights("w", &[8, 4], 0))
            .node(in_domain(domain, node("NewInIt", &["w"], &["y"])));
        with_functions(
            graph,
            vec![function(domain, "NewInIt", &["a"], &["b"], body)],
        )
    };
    for domain in ["", "com.microsoft", "ai.onnx.ml"] {
        let bytes = identity(domain);
        let reason = reason(&located(&bytes), "w");
        assert!(
            matches!(reason, Some(Reason::UnknownOperator { .. })),
            "{domain}: {reason:?}"
        );
    }
    let bytes = identity("com.microsoft2");
    assert_eq!(reason(&located(&bytes), "w"), Some(Reason::Unconsumed));
}

/// Attributes of a call that is an operator too.
#[test]
fn a_function_with_an_operators_name_hides_no_attributes() {
    let call = |op_type: &str| {
        let weights = vec![floats_attribute("coefficients", &[0.5; 32])];
        let body = vec![node("Neg", &["a"], &["b"])];
        let graph = GraphBuilder::new("main").node(in_domain(
            "ai.onnx.ml",
            node_with(op_type, &["x"], &["y"], weights),
        ));
        let bytes = with_functions(
            graph,
            vec![function("ai.onnx.ml", op_type, &["a"], &["b"], body)],
        );
        reason(&located(&bytes), "coefficients")
    };
    assert_eq!(call("LinearRegressor"), None);
    assert!(matches!(
        call("Normalizer"),
        Some(Reason::UnknownOperator { .. })
    ));
}

#[test]
fn calls_that_are_too_deep_are_not_followed() {
    let nested = |depth: usize| {
        let mut functions = vec![function(
            "my",
            "f0",
            &["v"],
            &[],
            vec![node("MatMul", &["x", "v"], &["unused"])],
        )];
        functions.extend((1..depth).map(|i| {
            let call = in_domain("my", node(&format!("f{}", i - 1), &["v"], &[]));
            function("my", &format!("f{i}"), &["v"], &[], vec![call])
        }));
        let graph = GraphBuilder::new("main")
            .initializer(weights("w", &[8, 4], 0))
            .node(in_domain(
                "my",
                node(&format!("f{}", depth - 1), &["w"], &["y"]),
            ));
        let bytes = with_functions(graph, functions);
        let model = located(&bytes);
        let policy = Policy::parse("preset = \"full\"\n[require]\nunknown_op = \"error\"").unwrap();
        let plan = common::plan(&model, &policy);
        (reason(&model, "w"), plan.violations(&model, &policy).len())
    };
    assert_eq!(nested(64), (None, 0));
    assert_eq!(nested(65), (Some(Reason::NotFollowed), 1));
}

/// Runtimes refuse these; nobody here concludes that there is no weight in them.
#[test]
fn calls_that_lead_nowhere_are_not_taken_for_harmless() {
    let f = |body: Vec<NodeProto>| function("my", "f", &["v"], &["out"], body);
    let dense = || vec![node("MatMul", &["v", "v"], &["out"])];
    let told = |functions: Vec<onnxseal_onnx::proto::FunctionProto>, inputs: &[&str]| {
        let graph = GraphBuilder::new("main")
            .initializer(weights("w", &[8, 4], 0))
            .node(in_domain("my", node("f", inputs, &["y"])));
        let bytes = with_functions(graph, functions);
        let model = located(&bytes);
        let policy = Policy::parse("[require]\nunknown_op = \"error\"").unwrap();
        (
            reason(&model, "w"),
            common::plan(&model, &policy)
                .violations(&model, &policy)
                .len(),
        )
    };
    let unknown = || {
        let op_types = vec!["my.f".to_owned()];
        Some(Reason::UnknownOperator { op_types })
    };
    assert_eq!(told(vec![f(dense())], &["w"]), (None, 0));
    // Two of a name; one with another overload; more inputs than the function has.
    assert_eq!(told(vec![f(vec![]), f(dense())], &["w"]), (unknown(), 1));
    let mut overload = f(dense());
    overload.overload = Some("o".into());
    assert_eq!(told(vec![overload], &["w"]), (unknown(), 1));
    assert_eq!(told(vec![f(vec![])], &["x", "w"]), (unknown(), 1));
    // No body, or one that calls itself.
    assert_eq!(told(vec![f(vec![])], &["w"]), (Some(Reason::Unconsumed), 1));
    let itself = vec![in_domain("my", node("f", &["v"], &["out"]))];
    assert_eq!(
        told(vec![f(itself)], &["w"]),
        (Some(Reason::NotFollowed), 1)
    );
}

#[test]
fn circles_end() {
    let recursive = function(
        "my",
        "f",
        &["v"],
        &["out"],
        vec![
            in_domain("my", node("f", &["v"], &["out"])),
            in_domain("my", node("f", &["out"], &["again"])),
            node("Conv", &["v", "v"], &["unused"]),
        ],
    );
    let graph = GraphBuilder::new("main")
        .initializer(weights("w", &[8, 4], 0))
        .node(node("Identity", &["p"], &["q"]))
        .node(node("Concat", &["q", "w"], &["p"]))
        .node(in_domain("my", node("f", &["p"], &["p2"])))
        .node(in_domain("my", node("f", &["p2"], &["p"])));
    let bytes = with_functions(graph, vec![recursive]);
    let model = located(&bytes);
    assert_eq!(reason(&model, "w"), None);
    common::plan(&model, &Policy::preset(Preset::Full));
}

/// All of many tensors through one place and on through many more would be quadratic.
#[test]
fn tangles_are_given_up_in_time() {
    const N: usize = 20_000;
    let names: Vec<String> = (0..N).map(|i| format!("w{i}")).collect();
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut graph = GraphBuilder::new("main").node(node("Concat", &refs, &["p0"]));
    for (i, name) in names.iter().enumerate() {
        let (from, to) = (format!("p{i}"), format!("p{}", i + 1));
        graph = graph
            .initializer(weights(name, &[4, 4], 0))
            .node(node("Identity", &[&from], &[&to]))
            .node(conv(&to, "y"));
    }
    let bytes = graph.encode();
    let model = located(&bytes);
    let start = Instant::now();
    let known = classify(&model);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(known[0].reason, None);
    assert_eq!(known.last().unwrap().reason, Some(Reason::NotFollowed));
}

/// Returning from each of many functions must not take as long as the whole file is large.
#[test]
fn many_functions_beside_a_large_graph() {
    const N: usize = 900_000;
    const N_FUNCTIONS: usize = (1 << 16) - 1;
    let functions = (0..N_FUNCTIONS).map(|i| {
        let body = vec![constant(weights("w", &[1], 0))];
        function("my", &format!("f{i}"), &["v"], &["w"], body)
    });
    let mut graph = GraphBuilder::new("main");
    for _ in 0..N {
        graph = graph
            .initializer(weights("v", &[1], 0))
            .node(node("Relu", &[], &[]));
    }
    let bytes = with_functions(graph, functions.collect());
    let model = located(&bytes);
    let known = classify(&model);
    assert_eq!(known.len(), N + N_FUNCTIONS);
    assert!(
        known
            .iter()
            .all(|known| known.reason == Some(Reason::Unconsumed))
    );
}

/// One tensor on a million ways through functions must not make each of many others take as long.
#[test]
fn many_tensors_after_a_tangle_of_calls() {
    const N: usize = 450_000;
    let call = |depth: usize, from: &str| in_domain("my", node(&format!("f{depth}"), &[from], &[]));
    let mut functions = vec![function("my", "f0", &["v"], &[], vec![])];
    for depth in 1..=10 {
        let calls = vec![call(depth - 1, "v"); 4];
        functions.push(function("my", &format!("f{depth}"), &["v"], &[], calls));
    }
    let mut graph = GraphBuilder::new("main")
        .initializer(weights("tangled", &[1], 0))
        .node(call(10, "tangled"));
    for i in 0..N {
        let name = format!("w{i}");
        graph = graph
            .initializer(weights(&name, &[1], 0))
            .node(call(0, &name));
    }
    let bytes = with_functions(graph, functions);
    let known = classify(&located(&bytes));
    assert_eq!(known.len(), N + 1);
    // Every way was followed: none was given up.
    assert!(
        known
            .iter()
            .all(|known| known.reason == Some(Reason::Unconsumed))
    );
}

/// Reports repeat a node's names for every tensor that it reads.
#[test]
fn long_names_of_nodes_do_not_multiply() {
    const N: usize = 4_000;
    let names: Vec<String> = (0..N).map(|i| format!("w{i}")).collect();
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    let long = "X".repeat(1 << 20);
    let mut graph = GraphBuilder::new("main").node(in_domain("my", node(&long, &refs, &["y"])));
    for name in &names {
        graph = graph.initializer(weights(name, &[4, 4], 0));
    }
    let bytes = graph.encode();
    let known = classify(&located(&bytes));
    let told = known.iter().map(|known| match &known.reason {
        Some(Reason::UnknownOperator { op_types }) => op_types.iter().map(String::len).sum(),
        Some(Reason::NotFollowed) => 0,
        other => panic!("{other:?}"),
    });
    let told: usize = told.sum();
    assert!(((1 << 20)..(1 << 29)).contains(&told), "{told}");
}
