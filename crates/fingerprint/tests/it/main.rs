//! Promises of the crate, on made-up and real models.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod attacks;
mod formats;
mod marks;
mod real;
mod traces;

use onnxseal_fingerprint::{Secret, Traced, apply, trace};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{ModelProto, TensorProto};
use onnxseal_rewrite::Files;
use onnxseal_store::{InMemory, Input, Location, Silent};
use onnxseal_testkit::build::{GraphBuilder, node, node_with, weights};
use prost::Message as _;

pub fn secret(byte: u8) -> Secret {
    let seed = format!("{byte:02x}").repeat(32);
    Secret::from_text(&format!("version = 1\nseed = \"{seed}\"\n")).unwrap()
}

pub fn location(model: &[u8]) -> Location {
    Location::Memory(InMemory::new("model.onnx", model.to_vec()))
}

pub fn open(model: &[u8]) -> Files {
    Files::open(&location(model)).unwrap()
}

/// The copy of a customer.
pub fn marked(model: &[u8], customer: &str) -> Vec<u8> {
    let marked = apply(&location(model), &secret(1), customer, None, &Silent).unwrap();
    read(&marked.model)
}

pub fn read(model: &Location) -> Vec<u8> {
    Input::open(model).unwrap().read_all().unwrap()
}

/// Traces a leak among 40 innocents and the guilty.
pub fn traced(model: &[u8], leak: &[u8], guilty: &[&str]) -> Traced {
    let innocents = (0..40).map(|i| format!("innocent {i}"));
    let customers: Vec<String> = innocents
        .chain(guilty.iter().map(|name| (*name).to_owned()))
        .collect();
    trace(&open(model), &open(leak), &secret(1), &customers, &Silent).unwrap()
}

/// The score of one of several guilty, the least, after a check that no innocent is accused.
pub fn least(model: &[u8], leak: &[u8], guilty: &[&str]) -> f64 {
    let traced = traced(model, leak, guilty);
    let is_guilty = |name: &str| guilty.contains(&name);
    let mut least = f64::INFINITY;
    for suspect in &traced.suspects {
        match is_guilty(&suspect.customer) {
            true => least = least.min(suspect.z),
            false => assert!(!suspect.accused && suspect.z < 5.0, "{suspect:?}"),
        }
    }
    least
}

/// Changes the elements of each float tensor of two or more dimensions.
pub fn changed(model: &[u8], mut change: impl FnMut(&str, &[usize], &mut Vec<f32>)) -> Vec<u8> {
    let mut model = ModelProto::decode(model).unwrap();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        let Some(mut values) = floats(tensor) else {
            continue;
        };
        let dims: Vec<usize> = tensor.dims.iter().map(|dim| *dim as usize).collect();
        if dims.len() > 1 {
            change(&tensor.name.clone().unwrap_or_default(), &dims, &mut values);
            set(tensor, &values);
        }
    }
    model.encode_to_vec()
}

/// The elements of a tensor of floats.
pub fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    let raw = tensor.raw_data.as_deref().unwrap_or_default();
    match DataType::try_from(tensor.data_type?).ok()? {
        DataType::Float if raw.is_empty() => Some(tensor.float_data.clone()),
        DataType::Float => Some(
            raw.as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
        ),
        DataType::Float16 if !raw.is_empty() => Some(
            raw.as_chunks()
                .0
                .iter()
                .map(|bytes| half::f16::from_le_bytes(*bytes).to_f32())
                .collect(),
        ),
        _ => None,
    }
}

/// Makes a tensor one of 32-bit floats.
pub fn set(tensor: &mut TensorProto, values: &[f32]) {
    tensor.data_type = Some(DataType::Float as i32);
    tensor.float_data = Vec::new();
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    tensor.raw_data = Some(bytes.collect());
}

/// Two convolutions, two products and an embedding: about 300,000 weights that look random.
pub fn network() -> Vec<u8> {
    GraphBuilder::new("network")
        .input("x", &[1, 3, 16, 16])
        .output("y", &[1, 40])
        .initializer(weights("c1", &[64, 3, 3, 3], 1))
        .initializer(weights("c2", &[96, 64, 3, 3], 2))
        .initializer(weights("m1", &[96, 512], 3))
        .initializer(weights("m2", &[512, 384], 4))
        .initializer(weights("m3", &[384, 40], 5))
        .node(node("Conv", &["x", "c1"], &["a"]))
        .node(node("Conv", &["a", "c2"], &["b"]))
        .node(node("GlobalAveragePool", &["b"], &["c"]))
        .node(node_with("Flatten", &["c"], &["d"], Vec::new()))
        .node(node("MatMul", &["d", "m1"], &["e"]))
        .node(node("MatMul", &["e", "m2"], &["f"]))
        .node(node("MatMul", &["f", "m3"], &["y"]))
        .encode()
}
