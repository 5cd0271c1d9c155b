//! Files that mean to mislead: circles, tangles, calls that lead nowhere.

use std::time::{Duration, Instant};

use onnxseal_onnx::proto::{FunctionProto, NodeProto};
use onnxseal_plan::{Policy, Preset, Reason, classify};
use onnxseal_testkit::build::{GraphBuilder, constant, function, in_domain, node, weights};

use crate::common::{self, located, reason, with_functions};

/// Why `w` is no weight, and the findings of a policy that takes parts and demands rules for all;
/// `full` encrypts `w` in any case.
fn told(bytes: &[u8]) -> (Option<Reason>, usize) {
    let model = located(bytes);
    let policy = Policy::parse("preset = \"strong\"\n[require]\nunknown_op = \"error\"").unwrap();
    let violations = common::violations(bytes, &policy);
    let is_finding = |violation: &&String| violation.contains(" may be a weight: ");
    assert!(common::clear(bytes, &Policy::preset(Preset::Full)).is_empty());
    (
        reason(&model, "w"),
        violations.iter().filter(is_finding).count(),
    )
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
            .node(node("Conv", &["x", &to], &["y"]));
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
        let body = vec![constant(weights("w", &[2], 0))];
        function("my", &format!("f{i}"), &["v"], &["w"], body)
    });
    let mut graph = GraphBuilder::new("main");
    for _ in 0..N {
        graph = graph
            .initializer(weights("v", &[2], 0))
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
        .initializer(weights("tangled", &[2], 0))
        .node(call(10, "tangled"));
    for i in 0..N {
        let name = format!("w{i}");
        graph = graph
            .initializer(weights(&name, &[2], 0))
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
        told(&with_functions(graph, functions))
    };
    assert_eq!(nested(64), (None, 0));
    assert_eq!(nested(65), (Some(Reason::NotFollowed), 1));
}

/// Runtimes refuse these; nobody here concludes that there is no weight in them.
#[test]
fn calls_that_lead_nowhere_are_not_taken_for_harmless() {
    let f = |body: Vec<NodeProto>| function("my", "f", &["v"], &["out"], body);
    let dense = || vec![node("MatMul", &["v", "v"], &["out"])];
    let told = |functions: Vec<FunctionProto>, inputs: &[&str]| {
        let graph = GraphBuilder::new("main")
            .initializer(weights("w", &[8, 4], 0))
            .node(in_domain("my", node("f", inputs, &["y"])));
        told(&with_functions(graph, functions))
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
