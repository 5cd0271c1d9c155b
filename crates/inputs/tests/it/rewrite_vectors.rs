//! New weights against those of the reference, `fixtures/reference/onnxseal_inputs.py`, and the
//! models of fixtures.

use std::path::PathBuf;

use onnxseal_inputs::InputKey;
use onnxseal_inputs::rewrite::{Files, Source, inspect, rewrite};
use onnxseal_onnx::model::Span;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{ModelProto, TensorProto};
use onnxseal_onnx::{Limits, locate};
use onnxseal_rewrite::apply;
use onnxseal_store::Location;
use onnxseal_testkit::build::*;
use prost::Message as _;
use serde_json::Value;

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures"))
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join(path)).unwrap()).unwrap()
}

fn list(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

/// `[D, n]`, each block flattened (row, column, channel), as `[D, C, M, M]`.
fn to_conv(rows: &[Vec<f64>], m: usize, channels: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in rows {
        for c in 0..channels {
            for pixel in 0..m * m {
                out.push(row[pixel * channels + c]);
            }
        }
    }
    out
}

fn doubles(name: &str, dims: &[i64], values: &[f64]) -> TensorProto {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw_tensor(name, DataType::Double, dims, bytes)
}

/// The model after it is rewritten.
fn rewritten(bytes: &[u8], key: &InputKey) -> ModelProto {
    let model = locate(bytes, &Limits::default()).unwrap();
    let external = |_: &str, _: Span| panic!("there is no external data");
    let source = Source {
        bytes,
        model: &model,
        external: &external,
    };
    let done = rewrite(&source, key, None).unwrap();
    let bytes = apply(bytes, &done.edits).unwrap();
    ModelProto::decode(&bytes[..]).unwrap()
}

fn raw(model: &ModelProto, name: &str) -> Vec<u8> {
    let tensors = &model.graph.as_ref().unwrap().initializer;
    let tensor = tensors.iter().find(|tensor| tensor.name() == name).unwrap();
    tensor.raw_data().to_vec()
}

#[test]
fn weights_are_those_of_the_reference() {
    let vectors = json("vectors/inputs.json");
    for case in vectors["weights"].as_array().unwrap() {
        let key = InputKey::from_text(case["key"].as_str().unwrap()).unwrap();
        let (m, channels) = (key.spec().block as usize, key.spec().channels as usize);
        let rows = |name: &str| -> Vec<Vec<f64>> {
            case[name].as_array().unwrap().iter().map(list).collect()
        };
        // Written as f32, as short as possible.
        let exact = |x: &f64| f64::from(*x as f32);
        let weights: Vec<Vec<f64>> = (rows("weights").iter())
            .map(|row| row.iter().map(exact).collect())
            .collect();
        let bias: Vec<f64> = list(&case["bias"]).iter().map(exact).collect();
        let d = weights.len() as i64;
        let (m_, c_) = (m as i64, channels as i64);
        let is_nhwc = key.spec().layout == onnxseal_inputs::Layout::Nhwc;
        let dims = match is_nhwc {
            true => [1, 2 * m_, 2 * m_, c_],
            false => [1, c_, 2 * m_, 2 * m_],
        };
        let mut graph = GraphBuilder::new("g")
            .input("x", &dims)
            .initializer(doubles(
                "w",
                &[d, c_, m_, m_],
                &to_conv(&weights, m, channels),
            ))
            .initializer(doubles("b", &[d], &bias));
        let mut name = "x";
        if is_nhwc {
            let order = vec![ints_attribute("perm", &[0, 3, 1, 2])];
            graph = graph.node(node_with("Transpose", &[name], &["first"], order));
            name = "first";
        }
        let normalises = !case["mean"].is_null();
        if normalises {
            graph = graph
                .initializer(doubles("mean", &[c_, 1, 1], &list(&case["mean"])))
                .initializer(doubles("std", &[c_, 1, 1], &list(&case["std"])))
                .node(node("Sub", &[name, "mean"], &["centred"]))
                .node(node("Div", &["centred", "std"], &["normal"]));
            name = "normal";
        }
        let what = case["what"].as_str().unwrap();
        // The vectors have either the key's statistics or the graph's.
        assert!(!normalises || key.spec().normalisation.is_none(), "{what}");
        let strides = vec![ints_attribute("strides", &[m_, m_])];
        let bytes = graph
            .node(node_with("Conv", &[name, "w", "b"], &["y"], strides))
            .encode();
        let after = rewritten(&bytes, &key);
        let expected = [
            ("w", to_conv(&rows("rewritten"), m, channels)),
            ("b", list(&case["rewritten_bias"])),
        ];
        for (name, expected) in expected {
            let found = raw(&after, name);
            let found = found
                .chunks(8)
                .map(|x| f64::from_le_bytes(x.try_into().unwrap()));
            let largest = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
            for (found, expected) in found.zip(expected) {
                assert!((found - expected).abs() <= 1e-9 * largest, "{what}: {name}");
            }
        }
    }
}

#[test]
fn models_of_fixtures_are_rewritten_with_their_keys() {
    let models = json("inputs/models.json");
    let mut n = 0;
    for (name, model) in models.as_object().unwrap() {
        let path = fixtures().join("inputs").join(name);
        let bytes = std::fs::read(&path).unwrap();
        let files = Files::open(&Location::File(path)).unwrap();
        let found = files.with(inspect).unwrap().remove(0).found.unwrap();
        for keyed in model["keyed"]
            .as_object()
            .into_iter()
            .flat_map(|keyed| keyed.values())
        {
            let key = fixtures()
                .join("inputs")
                .join(keyed["key"].as_str().unwrap());
            let key = InputKey::open(&key, None).unwrap();
            assert!(found.blocks.contains(&key.spec().block), "{name}");
            assert_eq!(found.layout, key.spec().layout, "{name}");
            let done = files.with(|source| rewrite(source, &key, None)).unwrap();
            let after = apply(&bytes, &done.edits).unwrap();
            locate(&after, &Limits::default())
                .unwrap()
                .check_unambiguous()
                .unwrap();
            n += 1;
        }
    }
    assert!(n > 20, "{n}");
}
