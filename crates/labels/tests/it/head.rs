//! The layer that answers: found, refused, and replaced by ranges of the file.

use std::path::{Path, PathBuf};

use onnxseal_labels::head::{Head, KEY, Rows};
use onnxseal_labels::{Error, Result};
use onnxseal_onnx::model::{Payload, Span};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{ModelProto, NodeProto, TensorProto};
use onnxseal_onnx::{Limits, locate};
use onnxseal_rewrite::{Edit, Error as RewriteError, Files, Source, apply};
use onnxseal_store::{Location, OutputOptions};
use onnxseal_testkit::build::*;
use prost::Message as _;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/models")
        .join(name)
}

fn no_external(_: &str, _: Span) -> onnxseal_rewrite::Result<Vec<u8>> {
    panic!("there is no external data")
}

fn with<T>(bytes: &[u8], call: impl FnOnce(&Source<'_>) -> Result<T>) -> Result<T> {
    let model = locate(bytes, &Limits::default()).unwrap();
    call(&Source {
        bytes,
        model: &model,
        external: &no_external,
    })
}

fn find(bytes: &[u8]) -> Result<Head> {
    with(bytes, |source| Head::find(source, None))
}

/// Rows that repeat those of the classes, with a bias if there is one.
fn twice(head: &Head) -> Rows {
    let twice = |values: &[f64]| {
        values
            .iter()
            .chain(values)
            .map(|value| *value as f32)
            .collect()
    };
    Rows {
        weights: twice(&head.weights),
        bias: head.bias.as_deref().map(twice),
    }
}

fn rewritten(bytes: &[u8]) -> ModelProto {
    let edits: Vec<Edit> = with(bytes, |source| {
        let head = Head::find(source, None)?;
        Ok(head.edits(source, &head.stored(&twice(&head)), "the table")?)
    })
    .unwrap();
    let written = apply(bytes, &edits).unwrap();
    // What is read by ranges is what a decoder of messages reads.
    locate(&written, &Limits::default()).unwrap();
    ModelProto::decode(&written[..]).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    match find(bytes) {
        Err(Error::Rewrite(RewriteError::Refused(refusal))) => refusal.to_string(),
        Err(error) => panic!("{error}"),
        Ok(head) => panic!("{} was found", head.node),
    }
}

fn ops(nodes: &[NodeProto]) -> Vec<&str> {
    nodes
        .iter()
        .map(|node| node.op_type.as_deref().unwrap())
        .collect()
}

fn names(tensors: &[TensorProto]) -> Vec<&str> {
    tensors
        .iter()
        .map(|tensor| tensor.name.as_deref().unwrap())
        .collect()
}

fn tail_of(head: &Head) -> ModelProto {
    ModelProto::decode(&head.tail[..]).unwrap()
}

/// x [N, 4] to z [N, 3].
fn classifier() -> GraphBuilder {
    GraphBuilder::new("g")
        .input("x", &[-1, 4])
        .initializer(weights("w", &[3, 4], 1))
        .initializer(weights("b", &[3], 2))
        .node(node_with(
            "Gemm",
            &["x", "w", "b"],
            &["z"],
            vec![int_attribute("transB", 1)],
        ))
}

#[test]
fn layers_of_real_models() {
    for (name, classes, columns, axis, n_outputs, has_tail) in [
        ("digits_cnn.onnx", 10, 32, 1, 1, false),
        ("digits_cnn_bf16.onnx", 10, 32, 1, 1, false),
        ("digits_cnn_dynamo.onnx", 10, 32, 1, 1, false),
        ("digits_cnn_fp16.onnx", 10, 32, 1, 1, true),
        ("digits_embedding.onnx", 10, 12, 1, 1, false),
        ("digits_gru.onnx", 10, 24, 1, 1, false),
        ("digits_lstm.onnx", 10, 48, 1, 1, false),
        ("digits_sklearn_mlp.onnx", 10, 32, -1, 2, true),
        ("digits_tensorflow.onnx", 10, 32, -1, 1, false),
    ] {
        let files = Files::open(&Location::from(fixture(name))).unwrap();
        let head = files.with(|source| Head::find(source, None)).unwrap();
        let is = (
            head.classes,
            head.columns,
            head.axis,
            head.outputs.len(),
            !head.tail.is_empty(),
        );
        assert_eq!(is, (classes, columns, axis, n_outputs, has_tail), "{name}");
        assert_eq!(head.weights.len(), classes * columns, "{name}");
        assert_eq!(head.bias.as_ref().unwrap().len(), classes, "{name}");
    }
}

#[test]
fn real_models_that_have_no_such_layer() {
    for (name, node, reason) in [
        ("digits_cnn_dynamic.onnx", "MatMulInteger", "quantised"),
        ("digits_cnn_qdq.onnx", "DequantizeLinear", "quantised"),
        ("digits_cnn_qoperator.onnx", "DequantizeLinear", "quantised"),
        ("digits_mlp_int4.onnx", "MatMulNBits", "quantised"),
        (
            "digits_sklearn_forest.onnx",
            "TreeEnsembleClassifier",
            "weights in attributes",
        ),
        (
            "digits_sklearn_logistic.onnx",
            "LinearClassifier",
            "weights in attributes",
        ),
        ("subgraph_if.onnx", "If", "lies within it"),
    ] {
        let text = refusal(&std::fs::read(fixture(name)).unwrap());
        assert!(
            text.contains(node) && text.contains(reason),
            "{name}: {text}"
        );
    }
}

#[test]
fn all_that_shows_the_old_layer_is_gone() {
    let model = classifier()
        .initializer(int64s("shape", &[2], &[0, -1]))
        .node(node("Reshape", &["z", "shape"], &["flat"]))
        .node(node_with(
            "Softmax",
            &["flat"],
            &["p"],
            vec![int_attribute("axis", 1)],
        ))
        .node(node("ArgMax", &["p"], &["label"]))
        .output("p", &[-1, 3])
        .output("label", &[-1]);
    let bytes = model.encode();
    let head = find(&bytes).unwrap();
    assert_eq!(head.outputs, ["p", "label"]);
    let tail = tail_of(&head).graph.unwrap();
    assert_eq!(ops(&tail.node), ["Reshape", "Softmax", "ArgMax"]);
    assert_eq!(names(&tail.initializer), ["shape"]);
    let model = rewritten(&bytes);
    assert_eq!(
        (
            &*model.metadata_props[0].key.clone().unwrap(),
            &*model.metadata_props[0].value.clone().unwrap()
        ),
        (KEY, "the table")
    );
    let graph = model.graph.unwrap();
    assert_eq!(ops(&graph.node), ["Gemm"]);
    assert_eq!(
        names(&graph.initializer),
        ["onnxseal.labels.weight", "onnxseal.labels.bias"]
    );
    assert_eq!(graph.initializer[0].dims, [6, 4]);
    let outputs: Vec<_> = graph
        .output
        .iter()
        .map(|output| output.name.clone().unwrap())
        .collect();
    assert_eq!(outputs, ["z"]);
}

#[test]
fn what_others_read_stays() {
    // An embedding beside the classes, and a constant that both read.
    let model = classifier()
        .initializer(weights("one", &[1], 3))
        .node(node("Mul", &["x", "one"], &["embedding"]))
        .node(node("Mul", &["z", "one"], &["scaled"]))
        .output("embedding", &[-1, 4])
        .output("scaled", &[-1, 3]);
    let bytes = model.encode();
    // The embedding has no layer of its own before it.
    assert_eq!(find(&bytes).unwrap().outputs, ["embedding", "scaled"]);
    let graph = rewritten(&bytes).graph.unwrap();
    assert_eq!(ops(&graph.node), ["Gemm", "Mul"]);
    assert_eq!(
        names(&graph.initializer),
        ["one", "onnxseal.labels.weight", "onnxseal.labels.bias"]
    );
    let outputs: Vec<_> = graph
        .output
        .iter()
        .map(|output| output.name.clone().unwrap())
        .collect();
    assert_eq!(outputs, ["embedding", "z"]);
}

#[test]
fn logits_that_are_an_output_too() {
    let model = classifier()
        .node(node("Softmax", &["z"], &["p"]))
        .output("z", &[-1, 3])
        .output("p", &[-1, 3]);
    let bytes = model.encode();
    let head = find(&bytes).unwrap();
    let outputs = tail_of(&head).graph.unwrap().output;
    assert_eq!(outputs.len(), 1);
    assert_eq!((&*head.logits, &*head.answers), ("z", "z"));
    assert_eq!(rewritten(&bytes).graph.unwrap().output.len(), 1);
}

#[test]
fn convolutions_with_pooling_behind_them() {
    let conv = |pooling: &[&str]| {
        let mut graph = GraphBuilder::new("g")
            .input("x", &[1, 4, 5, 5])
            .initializer(weights("w", &[3, 4, 1, 1], 1))
            .node(node("Conv", &["x", "w"], &["z"]));
        let mut value = "z".to_owned();
        for op in pooling {
            let next = format!("{value}_");
            graph = graph.node(node(op, &[&value], &[&next]));
            value = next;
        }
        graph.output(&value, &[1, 3, 1, 1]).encode()
    };
    let bytes = conv(&["Relu", "GlobalAveragePool", "Softmax"]);
    let head = find(&bytes).unwrap();
    assert_eq!((head.classes, head.columns, head.axis), (3, 4, 1));
    assert_eq!(
        rewritten(&bytes).graph.unwrap().initializer[0].dims,
        [6, 4, 1, 1]
    );
    for ops in [&["Relu"][..], &["Transpose", "Softmax"]] {
        assert!(refusal(&conv(ops)).contains("each position"));
    }
}

#[test]
fn weights_that_come_through_other_nodes() {
    // As CNTK writes it: a Parameter is reshaped, and multiplied from the right.
    let bytes = GraphBuilder::new("g")
        .input("x", &[-1, 4])
        .initializer(weights("w", &[2, 2, 3], 1))
        .initializer(weights("b", &[1, 3], 2))
        .initializer(int64s("shape", &[2], &[4, -1]))
        .node(node("Reshape", &["w", "shape"], &["w2"]))
        .node(node("MatMul", &["x", "w2"], &["product"]))
        .node(node("Add", &["b", "product"], &["z"]))
        .output("z", &[-1, 3])
        .encode();
    let head = find(&bytes).unwrap();
    assert_eq!((head.classes, head.columns, head.axis), (3, 4, -1));
    let stored: Vec<f32> = floats(12, 1);
    for (class, row) in head.weights.chunks(4).enumerate() {
        for (d, value) in row.iter().enumerate() {
            assert_eq!(*value as f32, stored[d * 3 + class]);
        }
    }
    let graph = rewritten(&bytes).graph.unwrap();
    assert_eq!(ops(&graph.node), ["MatMul", "Add"]);
    assert_eq!(
        names(&graph.initializer),
        ["onnxseal.labels.weight", "onnxseal.labels.bias"]
    );
    assert_eq!(graph.initializer[0].dims, [4, 6]);
}

#[test]
fn a_layer_without_bias_gets_one_where_a_trace_needs_it() {
    for op in ["Gemm", "MatMul"] {
        let bytes = GraphBuilder::new("g")
            .input("x", &[-1, 4])
            .initializer(weights("w", &[4, 3], 1))
            .node(node(op, &["x", "w"], &["z"]))
            .output("z", &[-1, 3])
            .encode();
        let edits = with(&bytes, |source| {
            let head = Head::find(source, None)?;
            let rows = Rows {
                bias: Some(vec![0.5; 6]),
                ..twice(&head)
            };
            Ok(head.edits(source, &head.stored(&rows), "")?)
        });
        let written = apply(&bytes, &edits.unwrap()).unwrap();
        let graph = ModelProto::decode(&written[..]).unwrap().graph.unwrap();
        let wanted: &[&str] = if op == "Gemm" {
            &["Gemm"]
        } else {
            &["MatMul", "Add"]
        };
        assert_eq!(ops(&graph.node), wanted);
        assert_eq!(graph.initializer.len(), 2);
    }
}

#[test]
fn external_weights_are_blanked() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::open(&Location::from(fixture("digits_cnn_dynamo.onnx"))).unwrap();
    let edits = files.with(|source| -> Result<_> {
        let head = Head::find(source, None)?;
        Ok(head.edits(source, &head.stored(&twice(&head)), "")?)
    });
    let out = Location::from(dir.path().join("out.onnx"));
    let written = files
        .write(&edits.unwrap(), &out, OutputOptions::default())
        .unwrap();
    let bytes = std::fs::read(fixture("digits_cnn_dynamo.onnx")).unwrap();
    let model = locate(&bytes, &Limits::default()).unwrap();
    let weight = model
        .nodes
        .iter()
        .rfind(|node| node.op_type == "Gemm")
        .unwrap()
        .inputs[1];
    let tensor = model
        .tensors
        .iter()
        .find(|tensor| tensor.name == weight)
        .unwrap();
    let Payload::Dense { span, .. } = tensor.payload else {
        panic!()
    };
    let data = std::fs::read(&written.files[0]).unwrap();
    let was = std::fs::read(fixture("digits_cnn_dynamo.onnx.data")).unwrap();
    let range = span.start as usize..span.end() as usize;
    assert!(data[range.clone()].iter().all(|byte| *byte == 0));
    assert!(was[range.clone()].iter().any(|byte| *byte != 0));
    assert_eq!(data[..range.start], was[..range.start]);
}

#[test]
fn refusals() {
    let score = GraphBuilder::new("g")
        .input("x", &[-1, 4])
        .initializer(weights("w", &[4, 1], 1))
        .node(node("MatMul", &["x", "w"], &["z"]))
        .node(node("Sigmoid", &["z"], &["p"]))
        .output("p", &[-1, 1]);
    assert!(refusal(&score.encode()).contains("one output"));
    let shared = classifier()
        .node(node("Slice", &["z", "a", "b"], &["first"]))
        .output("first", &[-1, 2]);
    assert!(refusal(&shared.encode()).contains("several heads share"));
    let two = classifier()
        .initializer(weights("v", &[3, 4], 5))
        .node(node_with(
            "Gemm",
            &["x", "v", ""],
            &["y"],
            vec![int_attribute("transB", 1)],
        ))
        .node(node("Add", &["y", "z"], &["sum"]))
        .output("sum", &[-1, 3]);
    assert!(refusal(&two.encode()).contains("several layers"));
    let beside = classifier()
        .node(node("ReduceMax", &["x"], &["peak"]))
        .node(node("Mul", &["z", "peak"], &["p"]))
        .output("p", &[-1, 3]);
    assert!(refusal(&beside.encode()).contains("no layer"));
    let plain = GraphBuilder::new("g")
        .input("x", &[-1, 3])
        .node(node("Softmax", &["x"], &["p"]))
        .output("p", &[-1, 3]);
    assert!(refusal(&plain.encode()).contains("no layer"));
    let own = GraphBuilder::new("g")
        .input("x", &[-1, 3])
        .node(in_domain("com.example", node("Gemm", &["x", "w"], &["p"])))
        .output("p", &[-1, 3]);
    assert!(refusal(&own.encode()).contains("Gemm"));
    // Two outputs of two layers: one has to be named.
    let both = classifier()
        .initializer(weights("v", &[3, 4], 5))
        .node(node_with(
            "Gemm",
            &["x", "v"],
            &["y"],
            vec![int_attribute("transB", 1)],
        ))
        .output("z", &[-1, 3])
        .output("y", &[-1, 3])
        .encode();
    assert!(matches!(find(&both), Err(Error::Usage(text)) if text.contains("\"z\", \"y\"")));
    assert_eq!(
        with(&both, |source| Head::find(source, Some("y")))
            .unwrap()
            .answers,
        "y"
    );
    assert!(matches!(
        with(&both, |source| Head::find(source, Some("q"))),
        Err(Error::Usage(_))
    ));
}

#[test]
fn weights_that_another_node_reads_are_not_left_in_plain() {
    let tied = classifier()
        .node(node("MatMul", &["z", "w"], &["back"]))
        .output("z", &[-1, 3])
        .output("back", &[-1, 4])
        .encode();
    let result = with(&tied, |source| {
        let head = Head::find(source, Some("z"))?;
        Ok(head.edits(source, &head.stored(&twice(&head)), "")?)
    });
    // The MatMul follows the layer, and has weights.
    assert!(matches!(
        result,
        Err(Error::Rewrite(RewriteError::Refused(_)))
    ));
    let tied = classifier()
        .node(node("Gather", &["w", "x"], &["row"]))
        .output("z", &[-1, 3])
        .output("row", &[-1, 4])
        .encode();
    let result = with(&tied, |source| {
        let head = Head::find(source, Some("z"))?;
        Ok(head.edits(source, &head.stored(&twice(&head)), "")?)
    });
    let Err(Error::Rewrite(RewriteError::Refused(refusal))) = result else {
        panic!()
    };
    assert!(
        refusal
            .to_string()
            .contains("another node reads its weights")
    );
}

#[test]
fn floats_of_16_bits_are_computed_in_32() {
    let half = |name: &str, dims: &[i64]| {
        let n = dims.iter().product::<i64>() as usize;
        raw_tensor(name, DataType::Float16, dims, [0x00, 0x3c].repeat(n))
    };
    let bytes = GraphBuilder::new("g")
        .typed_input("x", DataType::Float16, &[-1, 4])
        .initializer(half("w", &[3, 4]))
        .initializer(half("b", &[3]))
        .node(node_with(
            "Gemm",
            &["x", "w", "b"],
            &["z"],
            vec![int_attribute("transB", 1)],
        ))
        .output("z", &[-1, 3])
        .encode();
    let head = find(&bytes).unwrap();
    assert_ne!(head.logits, head.answers);
    let tail = tail_of(&head).graph.unwrap();
    assert_eq!(ops(&tail.node), ["Cast"]);
    assert_eq!(tail.output[0].name.as_deref(), Some("z"));
    assert_eq!(
        ops(&rewritten(&bytes).graph.unwrap().node),
        ["Cast", "Gemm"]
    );
}
