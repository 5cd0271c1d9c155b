//! Weights found where they really stand.

use onnxseal_onnx::model::TensorRole;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{GraphProto, NodeProto, SparseTensorProto};
use onnxseal_plan::{Reason, classify};
use onnxseal_testkit::build::{
    GraphBuilder, bare_tensor, constant, floats_attribute, function, graph_attribute, in_domain,
    int64s, node, node_with, weights,
};
use prost::Message;

use crate::common::{located, readers, reason, string_data, with_functions};

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
        .initializer(int64s("indices", &[2], &[0, 1]))
        .initializer(weights("few", &[15], 0))
        .initializer(string_data("text"))
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
        .node(node("Gather", &["e", "indices"], &["f"]))
        .node(node("Add", &["x", "few"], &["g"]))
        .node(node("Gather", &["text", "i"], &["h"]))
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
    assert_eq!(told("epsilon"), "it has one element");
    assert_eq!(
        told("few"),
        "Add reads fewer than 16 elements, too few to be learnt"
    );
    assert_eq!(told("shape"), "the graph's shapes are computed from it");
    assert_eq!(
        told("indices"),
        "only `full` takes elements of type INT64 for weights"
    );
    assert_eq!(told("text"), "it holds text");
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
