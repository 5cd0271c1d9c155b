//! What is located, and is not protected or run: models that programs do not read alike.

use onnxseal_onnx::proto::{AttributeProto, GraphProto, NodeProto, SparseTensorProto};
use onnxseal_onnx::{Error, Model};
use onnxseal_testkit::build::{
    GraphBuilder, constant, entry, external, function, graph_attribute, int64s, node, node_with,
    tensor_attribute, weights,
};
use onnxseal_testkit::{samples, wire};
use prost::Message;

use crate::support::located;

/// Path and fault of the refusal.
fn refusal(model: &Model<'_>) -> (String, String) {
    match model.check_unambiguous() {
        Err(Error::Malformed { at, fault }) => (at.path, fault.to_string()),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn sparse(name: &str) -> SparseTensorProto {
    SparseTensorProto {
        values: Some(weights(name, &[2], 1)),
        indices: Some(int64s("", &[2], &[0, 3])),
        dims: vec![4],
    }
}

fn graph(edit: impl FnOnce(&mut GraphProto)) -> Vec<u8> {
    let builder = GraphBuilder::new("g").input("x", &[4]).output("y", &[4]);
    let mut model = builder.model();
    edit(model.graph.as_mut().unwrap());
    model.encode_to_vec()
}

/// The paths of two values with one name.
fn twice(bytes: &[u8]) -> (String, String) {
    let (second, fault) = refusal(&located(bytes));
    let first = fault
        .strip_prefix("expected a value with a name of its own, found \"w\", which ")
        .and_then(|rest| rest.strip_suffix(" has"));
    (first.expect(&fault).to_owned(), second)
}

#[test]
fn a_name_that_two_values_of_a_graph_have() {
    type Edit = fn(&mut GraphProto);
    let initializer: Edit = |graph| graph.initializer.push(weights("w", &[4], 1));
    let sparse_one: Edit = |graph| graph.sparse_initializer.push(sparse("w"));
    let constant_node: Edit = |graph| graph.node.push(constant(weights("w", &[4], 2)));
    let sparse_constant: Edit = |graph| {
        let attribute = AttributeProto {
            name: Some("sparse_value".to_owned()),
            sparse_tensor: Some(sparse("")),
            ..AttributeProto::default()
        };
        let node = node_with("Constant", &[], &["w"], vec![attribute]);
        graph.node.push(node);
    };
    let output: Edit = |graph| graph.node.push(node("Split", &["x"], &["", "w"]));
    let input: Edit = |graph| graph.input[0].name = Some("w".to_owned());
    let (i, s, n) = (
        "graph.initializer[0]",
        "graph.sparse_initializer[0].values",
        "graph.node[0]",
    );
    for (first, second, paths) in [
        (initializer, initializer, (i, "graph.initializer[1]")),
        (initializer, sparse_one, (i, s)),
        (initializer, constant_node, (i, n)),
        (initializer, output, (i, n)),
        (
            sparse_one,
            sparse_one,
            (s, "graph.sparse_initializer[1].values"),
        ),
        (sparse_one, constant_node, (s, n)),
        (sparse_one, output, (s, n)),
        (constant_node, constant_node, (n, "graph.node[1]")),
        (sparse_constant, constant_node, (n, "graph.node[1]")),
        (constant_node, output, (n, "graph.node[1]")),
        (output, output, (n, "graph.node[1]")),
        (input, constant_node, ("graph.input[0]", n)),
    ] {
        let bytes = graph(|graph| {
            first(graph);
            second(graph);
        });
        let (found, found_second) = twice(&bytes);
        assert_eq!((found.as_str(), found_second.as_str()), paths);
        for one in [first, second] {
            located(&graph(one)).check_unambiguous().unwrap();
        }
    }
    // A default of an input, outputs that are left out, and what is no value's name.
    let legal = graph(|graph| {
        input(graph);
        initializer(graph);
        let held = vec![tensor_attribute("w", weights("w", &[4], 3))];
        graph
            .node
            .push(node_with("LSTM", &["x"], &["", "", "y"], held));
    });
    located(&legal).check_unambiguous().unwrap();
}

#[test]
fn in_subgraphs_and_functions() {
    let holder = |inner: Vec<NodeProto>, also: Vec<NodeProto>| {
        let inner = GraphProto {
            node: inner,
            ..GraphProto::default()
        };
        let attributes = vec![graph_attribute("then_branch", inner)];
        let outer = node_with("If", &["x"], &["y"], attributes);
        graph(|graph| {
            graph.node.push(outer);
            graph.node.extend(also);
        })
    };
    let w = || constant(weights("w", &[4], 1));
    assert_eq!(
        twice(&holder(vec![w(), w()], vec![])),
        (
            "graph.node[0].attribute[0].g.node[0]".to_owned(),
            "graph.node[0].attribute[0].g.node[1]".to_owned()
        )
    );
    // Graphs hide the names of those around them.
    let hidden = holder(vec![w()], vec![w()]);
    located(&hidden).check_unambiguous().unwrap();

    let mut model = GraphBuilder::new("g").node(w()).model();
    let body = |nodes| function("local", "F", &["w"], &["y"], nodes);
    model.functions = vec![body(vec![]), body(vec![w()])];
    assert_eq!(
        twice(&model.encode_to_vec()),
        (
            "functions[1].input[0]".to_owned(),
            "functions[1].node[0]".to_owned()
        )
    );
}

#[test]
fn keys_that_onnx_runtime_does_not_take() {
    let with = |key: &str, value: &str| {
        let mut tensor = external("w", &[4], "w.bin", None, None);
        tensor.external_data.push(entry(key, value));
        GraphBuilder::new("g").initializer(tensor).encode()
    };
    for (key, value) in [
        ("Location", "v.bin"),
        ("location\0", "v.bin"),
        ("basepath", "/"),
        ("prepacked_0", "MatMul+1"),
        ("prepacked_0", "MatMul+1|16;a;0"),
        ("prepacked_0", "MatMul+1|16;16"),
        ("prepacked_0", "MatMul+1|16;18446744073709551615;0"),
        ("prepacked_0", ""),
        ("checksum", ""),
        ("", "x"),
    ] {
        let bytes = with(key, value);
        let (path, fault) = refusal(&located(&bytes));
        assert_eq!(path, "graph.initializer[0]");
        let found = format!("prepacked, and a value, found {key:?}");
        assert!(fault.ends_with(&found), "{fault}");
    }
    located(&with("checksum", "abc"))
        .check_unambiguous()
        .unwrap();
    let bytes = with("prepacked_0", "MatMul+1|16;16;0|32;8;1");
    let model = located(&bytes);
    model.check_unambiguous().unwrap();
    assert_eq!(model.prepacked, [model.tensors[0].message]);
}

/// A function whose attribute has this default, and training that begins with such a graph.
fn parts(default: &[u8], initialization: &[u8]) -> Vec<u8> {
    let function = [wire::field(1, b"f"), wire::field(11, default)].concat();
    let training = wire::field(1, initialization);
    [
        samples::gemm(),
        wire::field(25, &function),
        wire::field(20, &training),
    ]
    .concat()
}

#[test]
fn files_that_nobody_has_looked_at() {
    let inline = weights("d", &[2], 1).encode_to_vec();
    let default = |tensor: &[u8]| wire::field(5, tensor);
    let names_files = |bytes: &[u8]| -> Vec<bool> {
        let model = located(bytes);
        let found: Vec<bool> = model
            .passed_over
            .iter()
            .map(|part| part.names_files)
            .collect();
        assert_eq!(model.check_unambiguous().is_err(), found.contains(&true));
        found
    };
    assert_eq!(names_files(&parts(&default(&inline), &[])), [false, false]);
    let with = |fields: &[Vec<u8>]| [inline.clone(), fields.concat()].concat();
    let (location, external_data) = (
        |value| wire::varint_field(14, value),
        wire::field(13, &entry("location", "shm/x").encode_to_vec()),
    );
    // Where parsers keep the first value, or the last that they know, or cut it to 32 bits.
    for tensor in [
        with(&[location(1)]),
        with(&[location(1), location(7)]),
        with(&[location(7), location(1), location(0)]),
        with(&[location(2)]),
        with(&[location(1 << 32)]),
        with(&[wire::field(14, &[1])]),
        with(std::slice::from_ref(&external_data)),
        with(&[location(0), external_data.clone()]),
        // No tensor.
        vec![0x4b],
    ] {
        let sparse = [wire::field(1, &inline), wire::field(2, &tensor)].concat();
        let graph = wire::field(5, &tensor);
        let held = |attribute: &[u8]| wire::field(1, &wire::field(5, attribute));
        for attribute in [
            default(&tensor),
            wire::field(10, &tensor),
            wire::field(22, &sparse),
            wire::field(23, &sparse),
            wire::field(6, &graph),
            wire::field(11, &held(&default(&tensor))),
            // Merged by parsers with what comes before, or put in its place.
            wire::field(11, &[graph.clone(), wire::field(2, b"g")].concat()),
        ] {
            assert_eq!(names_files(&parts(&attribute, &[])), [true, false]);
            assert_eq!(
                names_files(&parts(&default(&inline), &held(&attribute))),
                [false, true]
            );
        }
        assert_eq!(
            names_files(&parts(&default(&inline), &graph)),
            [false, true]
        );
        let sparse = wire::field(15, &sparse);
        assert_eq!(
            names_files(&parts(&default(&inline), &sparse)),
            [false, true]
        );
    }
}

/// What takes much memory once it is decoded, and what takes much stack.
#[test]
fn parts_of_many_small_messages() {
    let tensors = [0x52, 0].repeat(1 << 20);
    let model = parts(&tensors, &[]);
    assert!(!located(&model).passed_over[0].names_files);
    let nested = wire::nested_graphs(100_000);
    let graph = wire::fields(&nested)[0].1.clone();
    let attribute = [&[0x32][..], &nested[graph.start + 1..]].concat();
    let model = parts(&attribute, &[]);
    assert!(located(&model).passed_over[0].names_files);
}
