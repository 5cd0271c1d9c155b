//! Where the tensors of well-formed models are found, and under which names.

use onnxseal_onnx::Model;
use onnxseal_onnx::model::{
    FileId, GraphOwner, Payload, PayloadField, Span, TensorRole, Unpatchable,
};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_testkit::build::{
    GraphBuilder, constant, entry, external, float_data, floats, floats_attribute, graph_attribute,
    in_domain, ints_attribute, le_bytes, node, node_with, strings_attribute, tensor_attribute,
    weights,
};
use onnxseal_testkit::{samples, wire};
use prost::Message;

use crate::support::{elements, located, slice, tensor};

/// Name and path of every tensor.
fn paths<'m>(model: &'m Model<'_>) -> Vec<(&'m str, &'m str)> {
    let of = |t: &'m onnxseal_onnx::model::Tensor<'_>| (t.name, t.path.as_str());
    model.tensors.iter().map(of).collect()
}

#[test]
fn initializers_lie_in_raw_data() {
    let bytes = samples::gemm();
    let model = located(&bytes);

    assert_eq!(
        paths(&model),
        [("w", "graph.initializer[0]"), ("b", "graph.initializer[1]")]
    );
    let w = tensor(&model, "w");
    assert_eq!(w.place, TensorRole::Initializer);
    assert_eq!(
        (w.data_type, &w.dims[..], w.n_elements),
        (DataType::Float, &[3, 4][..], 12)
    );
    let Payload::Dense {
        file: FileId::MODEL,
        span,
        field: PayloadField::RawData,
        element_bits: 32,
    } = w.payload
    else {
        panic!("{:?}", w.payload);
    };
    assert_eq!(slice(&bytes, span), le_bytes(&floats(12, 1)));
    assert_eq!(model.len, bytes.len() as u64);
    assert_eq!(
        (model.ir_version, model.opset_imports[0].version),
        (Some(8), 17)
    );
}

#[test]
fn constants_take_the_name_of_their_output() {
    let bytes = samples::constant_nodes();
    let model = located(&bytes);
    assert_eq!(
        paths(&model),
        [
            ("w", "graph.node[0].attribute[0].t"),
            ("b", "graph.node[1].attribute[0].floats"),
        ]
    );
    let TensorRole::Attribute { node, attribute } = tensor(&model, "w").place else {
        panic!();
    };
    assert_eq!(
        (model.nodes[node.index()].op_type, attribute),
        ("Constant", "value")
    );
    let b = tensor(&model, "b");
    assert_eq!((&b.dims[..], b.n_elements), (&[3][..], 3));
    assert_eq!(elements(&bytes, b).unwrap(), le_bytes(&floats(3, 2)));
}

#[test]
fn constants_are_known_by_operator_not_by_order_of_fields() {
    // A node whose attribute comes first, and the attribute's name last.
    let t = wire::field(5, &weights("", &[2], 1).encode_to_vec());
    let attribute = [t, wire::field(1, b"value")].concat();
    let node = |domain: &[u8], op_type: &[u8]| {
        let fields = [
            wire::field(5, &attribute),
            wire::field(7, domain),
            wire::field(4, op_type),
            wire::field(2, b"out"),
        ];
        wire::field(7, &wire::field(1, &fields.concat()))
    };
    let name = |bytes: &[u8]| located(bytes).tensors[0].name.to_owned();
    assert_eq!(name(&node(b"", b"Constant")), "out");
    assert_eq!(name(&node(b"ai.onnx", b"Constant")), "out");
    assert_eq!(name(&node(b"other", b"Constant")), "value");
    assert_eq!(name(&node(b"", b"ConstantOfShape")), "value");
}

#[test]
fn single_floats_are_settings() {
    let one = floats_attribute("alpha", &[0.5]);
    let two = floats_attribute("scales", &[0.5, 0.25]);
    let bytes = GraphBuilder::new("g")
        .node(node_with("Op", &["x"], &["y"], vec![one, two]))
        .encode();
    let model = located(&bytes);
    assert_eq!(
        paths(&model),
        [("scales", "graph.node[0].attribute[1].floats")]
    );
}

#[test]
fn numbers_and_text_are_settings_and_integers_of_constants_are_tensors() {
    let text = "t".repeat(100);
    let of_op = vec![
        ints_attribute("perm", &[1, 0]),
        strings_attribute("text", &[&text]),
    ];
    let constant = |name, ints: &[i64]| {
        let ints = vec![ints_attribute("value_ints", ints)];
        node_with("Constant", &[], &[name], ints)
    };
    let bytes = GraphBuilder::new("g")
        .node(node_with("Op", &["x"], &["y"], of_op))
        .node(constant("two", &[4, 300]))
        .node(constant("one", &[7]))
        .encode();
    let model = located(&bytes);
    // Each with its tag, and its length: two integers, 100 bytes, one integer.
    assert_eq!((model.settings.n, model.settings.bytes), (3, 4 + 102 + 2));
    let [long] = &model.long_settings[..] else {
        panic!("{:?}", model.long_settings)
    };
    assert_eq!((long.node.index(), long.attribute), (0, "text"));
    assert_eq!(
        (&*long.path, long.bytes),
        ("graph.node[0].attribute[1]", 102)
    );
    let path = "graph.node[1].attribute[0].ints";
    assert_eq!(paths(&model), [("two", path)]);
    let packed = [wire::field(1, b"value_ints"), wire::field(8, &[4, 0xac, 2])].concat();
    let node = [
        wire::field(2, b"out"),
        wire::field(5, &packed),
        wire::field(4, b"Constant"),
    ]
    .concat();
    let packed = wire::field(7, &wire::field(1, &node));
    for bytes in [bytes, packed] {
        let ints = &located(&bytes).tensors[0];
        assert_eq!(
            (ints.data_type, &ints.dims[..]),
            (DataType::Int64, &[2][..])
        );
        assert_eq!(
            ints.payload,
            Payload::Unpatchable(Unpatchable::AttributeInts)
        );
    }
}

#[test]
fn packed_floats_of_an_attribute_are_dense() {
    let values = floats(5, 3);
    let attribute = [wire::field(1, b"w"), wire::field(7, &le_bytes(&values))].concat();
    let bytes = wire::field(7, &wire::field(1, &wire::field(5, &attribute)));
    let model = located(&bytes);
    assert!(matches!(model.tensors[0].payload, Payload::Dense { .. }));
    assert_eq!(
        elements(&bytes, &model.tensors[0]).unwrap(),
        le_bytes(&values)
    );
}

#[test]
fn tree_ensembles_hold_their_weights_in_attributes() {
    let bytes = samples::tree_ensemble();
    let model = located(&bytes);
    let names: Vec<_> = model.tensors.iter().map(|t| t.name).collect();
    assert_eq!(names, ["nodes_values", "target_weights"]);
    let found = elements(&bytes, tensor(&model, "target_weights")).unwrap();
    assert_eq!(found, le_bytes(&[-1.25, 3.5]));
    assert_eq!(model.nodes[0].domain, "ai.onnx.ml");
}

#[test]
fn subgraphs_know_their_node() {
    let bytes = samples::if_branches();
    let model = located(&bytes);
    assert_eq!(
        paths(&model),
        [
            ("w_then", "graph.node[0].attribute[0].g.initializer[0]"),
            (
                "w_else",
                "graph.node[0].attribute[1].g.node[0].attribute[0].t"
            ),
        ]
    );
    let owners: Vec<_> = model.graphs.iter().map(|graph| graph.owner).collect();
    let GraphOwner::Node { node, attribute } = owners[1] else {
        panic!("{owners:?}");
    };
    assert_eq!((owners[0], attribute), (GraphOwner::Model, "then_branch"));
    assert_eq!(model.nodes[node.index()].op_type, "If");
    assert_eq!(tensor(&model, "w_then").graph.index(), 1);
    assert_eq!(tensor(&model, "w_else").graph.index(), 2);
    let (names, outputs) = (model.graphs[2].name, &model.graphs[2].outputs);
    assert_eq!((names, &outputs[..]), ("else", &["y_else"][..]));
    let places: Vec<_> = model
        .nodes
        .iter()
        .map(|n| (n.op_type, n.graph.index(), n.position))
        .collect();
    let expected = [
        ("If", 0, 0),
        ("MatMul", 1, 0),
        ("Constant", 2, 0),
        ("MatMul", 2, 1),
    ];
    assert_eq!(places, expected);
}

#[test]
fn lists_of_tensors_and_graphs_are_counted() {
    let mut attribute = tensor_attribute("list", weights("a", &[2], 1));
    attribute.t = None;
    attribute.tensors = vec![weights("a", &[2], 1), weights("b", &[2], 2)];
    let inner = |name| {
        GraphBuilder::new(name)
            .initializer(weights(name, &[2], 3))
            .graph()
    };
    attribute.graphs = vec![inner("g0"), inner("g1")];
    let bytes = GraphBuilder::new("g")
        .node(node_with("Op", &[], &["y"], vec![attribute]))
        .encode();
    assert_eq!(
        paths(&located(&bytes)),
        [
            ("list", "graph.node[0].attribute[0].tensors[0]"),
            ("list", "graph.node[0].attribute[0].tensors[1]"),
            ("g0", "graph.node[0].attribute[0].graphs[0].initializer[0]"),
            ("g1", "graph.node[0].attribute[0].graphs[1].initializer[0]"),
        ]
    );
}

#[test]
fn functions_have_a_body() {
    let bytes = samples::local_function();
    let model = located(&bytes);
    let function = model.functions[0];
    assert_eq!(
        (function.domain, function.name, function.overload),
        ("local", "Dense", "")
    );
    let body = &model.graphs[function.body.index()];
    assert!(matches!(body.owner, GraphOwner::Function(id) if id.index() == 0));
    assert_eq!(
        (&body.inputs[..], &body.outputs[..]),
        (&["x", "w"][..], &["y"][..])
    );
    let b = tensor(&model, "b");
    assert_eq!(
        (b.path.as_str(), b.graph),
        ("functions[0].node[0].attribute[0].t", function.body)
    );
}

#[test]
fn functions_and_their_calls_have_an_overload() {
    let call = [wire::field(4, b"Dense"), wire::field(8, b"fast")].concat();
    let function = [wire::field(1, b"Dense"), wire::field(13, b"fast")].concat();
    let graph = wire::field(7, &wire::field(1, &call));
    let bytes = [graph, wire::field(25, &function)].concat();
    let model = located(&bytes);
    assert_eq!(
        (model.nodes[0].overload, model.functions[0].overload),
        ("fast", "fast")
    );
}

#[test]
fn the_main_graph_is_first_even_where_the_file_has_it_last() {
    let bytes = samples::local_function();
    let mut fields = wire::fields(&bytes);
    fields.reverse();
    let reversed: Vec<u8> = fields
        .iter()
        .flat_map(|(_, range)| bytes[range.clone()].to_vec())
        .collect();
    let model = located(&reversed);
    assert_eq!(model.graphs[model.main().index()].name, "local_function");
    assert_eq!(model.graphs[1].name, "Dense");
    let graphs: Vec<_> = model.nodes.iter().map(|node| node.graph.index()).collect();
    assert_eq!(graphs, [1, 1, 1, 0]);
}

#[test]
fn sparse_initializers_are_values_and_indices() {
    let bytes = samples::sparse();
    let model = located(&bytes);
    assert_eq!(
        paths(&model),
        [
            ("w", "graph.sparse_initializer[0].values"),
            ("w_indices", "graph.sparse_initializer[0].indices"),
        ]
    );
    assert_eq!(model.tensors[0].place, TensorRole::SparseValues);
    assert_eq!(model.tensors[1].place, TensorRole::SparseIndices);
}

#[test]
fn external_data_unifies_locations() {
    let sample = samples::external_data();
    let model = located(&sample.model);
    assert_eq!(model.external_files, ["weights/w.bin", "b.bin"]);
    let payload = |file, start, len| Payload::Dense {
        file: FileId(file),
        span: Span { start, len },
        field: PayloadField::ExternalData,
        element_bits: 32,
    };
    assert_eq!(tensor(&model, "w").payload, payload(1, 64, 48));
    assert_eq!(tensor(&model, "b").payload, payload(2, 0, 12));
    assert_eq!(model.location(FileId(2)), Some("b.bin"));
    assert_eq!(
        (model.location(FileId::MODEL), model.location(FileId(3))),
        (None, None)
    );

    let bytes = GraphBuilder::new("g")
        .initializer(external("a", &[1], "d/w.bin", None, None))
        .initializer(external("b", &[1], "./d//./w.bin", Some(4), None))
        .encode();
    let model = located(&bytes);
    assert_eq!(model.external_files, ["d/w.bin"]);
    assert_eq!(tensor(&model, "b").payload, payload(1, 4, 4));
}

#[test]
fn the_ai_onnx_domain_is_folded() {
    let mut model = GraphBuilder::new("g")
        .node(in_domain("ai.onnx", node("Relu", &["x"], &["y"])))
        .model();
    model.opset_import[0].domain = Some("ai.onnx".to_owned());
    let bytes = model.encode_to_vec();
    let model = located(&bytes);
    assert_eq!(
        (model.nodes[0].domain, model.opset_imports[0].domain),
        ("", "")
    );
}

#[test]
fn metadata_and_its_place_are_kept() {
    let mut model = GraphBuilder::new("g").model();
    model.metadata_props = vec![entry("author", "somebody"), entry("", "")];
    let bytes = model.encode_to_vec();
    let model = located(&bytes);
    let author = model.metadata_props[0];
    assert_eq!((author.key, author.value), ("author", "somebody"));
    let field = wire::field(14, &entry("author", "somebody").encode_to_vec());
    assert_eq!(slice(&bytes, author.field), field);
    assert_eq!(model.metadata_props[1].key, "");
}

#[test]
fn what_is_not_read_is_listed() {
    let mut bytes = samples::local_function();
    bytes.extend(wire::field(20, &[]));
    assert_eq!(located(&bytes).passed_over[0].path, "training_info[0]");

    let with_default = |attribute: onnxseal_onnx::proto::AttributeProto| {
        let mut function = wire::field(1, b"f");
        function.extend(wire::field(11, &attribute.encode_to_vec()));
        [samples::gemm(), wire::field(25, &function)].concat()
    };
    let empty = GraphBuilder::new("").graph();
    for (attribute, n) in [
        (floats_attribute("alpha", &[1.0]), 0),
        (floats_attribute("weights", &[1.0, 2.0]), 1),
        (tensor_attribute("t", weights("w", &[2], 1)), 1),
        (graph_attribute("g", empty), 1),
    ] {
        let bytes = with_default(attribute);
        let model = located(&bytes);
        let paths: Vec<_> = model.passed_over.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, vec!["functions[0].attribute_proto[0]"; n]);
    }
}

#[test]
fn unknown_fields_pass() {
    let unknown = [wire::varint_field(1000, 5), wire::field(99, b"xyz")].concat();
    let tensor = [weights("w", &[2], 1).encode_to_vec(), unknown.clone()].concat();
    let bytes = [wire::model_of_tensors(&[tensor]), unknown].concat();
    assert_eq!(located(&bytes).tensors.len(), 1);
}

#[test]
fn a_hundred_thousand_nodes_are_located() {
    let bytes = samples::chain(100_000);
    let model = located(&bytes);
    assert_eq!((model.nodes.len(), model.tensors.len()), (100_000, 100_000));
    let last = tensor(&model, "w99999");
    assert_eq!(last.path, "graph.initializer[99999]");
    assert_eq!(
        elements(&bytes, last).unwrap(),
        le_bytes(&floats(4, 99_999))
    );
}

#[test]
fn a_constant_without_output_takes_its_attributes_name() {
    let mut node = constant(float_data("w", &[2], 1));
    node.output.clear();
    let bytes = GraphBuilder::new("g").node(node).encode();
    assert_eq!(located(&bytes).tensors[0].name, "value");
}
