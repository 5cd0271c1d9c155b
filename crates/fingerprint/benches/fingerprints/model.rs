//! Models whose weights are changed.

use std::path::Path;

use half::{bf16, f16};
use onnxseal_fingerprint::{Secret, Traced, apply, trace};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{ModelProto, TensorProto};
use onnxseal_rewrite::Files;
use onnxseal_store::{InMemory, Input, Location, Silent};
use onnxseal_testkit::build::{le_bytes, node, raw_tensor};
use prost::Message as _;

/// A matrix with a row for each index of a tensor's first axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    pub rows: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub fn columns(&self) -> usize {
        self.values.len() / self.rows
    }
}

/// An original, and its vendor's secret.
pub struct Original {
    pub name: String,
    pub bytes: Vec<u8>,
    pub n_marked: u64,
    secret: Secret,
}

impl Original {
    pub fn read(path: &Path) -> Original {
        let bytes = std::fs::read(path).unwrap();
        let secret = Secret::from_text(&text_of(7)).unwrap();
        let n_marked = apply(&location(&bytes), &secret, "-", None, &Silent)
            .unwrap()
            .report
            .elements;
        Original {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            bytes,
            n_marked,
            secret,
        }
    }

    /// The copy of a customer.
    pub fn copy(&self, customer: &str) -> ModelProto {
        marked(&self.bytes, &self.secret, customer)
    }

    pub fn trace(&self, leak: &ModelProto, customers: &[String]) -> Traced {
        let leak = open(&leak.encode_to_vec());
        trace(&open(&self.bytes), &leak, &self.secret, customers, &Silent).unwrap()
    }
}

/// A leaked copy with the mark that another vendor's secret makes.
pub fn marked_by_another(model: &ModelProto) -> ModelProto {
    let secret = Secret::from_text(&text_of(8)).unwrap();
    marked(&model.encode_to_vec(), &secret, "another")
}

fn marked(bytes: &[u8], secret: &Secret, customer: &str) -> ModelProto {
    let marked = apply(&location(bytes), secret, customer, None, &Silent).unwrap();
    let input = Input::open(&marked.model).unwrap();
    ModelProto::decode(&*input.read_all().unwrap()).unwrap()
}

fn text_of(byte: u8) -> String {
    let seed = format!("{byte:02x}").repeat(32);
    format!("version = 1\nseed = \"{seed}\"\n")
}

fn location(bytes: &[u8]) -> Location {
    Location::Memory(InMemory::new("model.onnx", bytes.to_vec()))
}

fn open(bytes: &[u8]) -> Files {
    Files::open(&location(bytes)).unwrap()
}

/// The weights of a model: its tensors of floats with two or more axes.
pub fn weights(model: &mut ModelProto) -> Vec<(&mut TensorProto, Matrix)> {
    let graph = model.graph.as_mut().unwrap();
    let constants = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    let constants = constants.filter_map(|attribute| attribute.t.as_mut());
    let tensors = graph.initializer.iter_mut().chain(constants);
    tensors
        .filter_map(|tensor| matrix(tensor).map(|matrix| (tensor, matrix)))
        .collect()
}

fn matrix(tensor: &TensorProto) -> Option<Matrix> {
    let raw = tensor.raw_data();
    let values: Vec<f32> = match DataType::try_from(tensor.data_type()).ok()? {
        DataType::Float if raw.is_empty() => tensor.float_data.clone(),
        DataType::Float => each(raw, f32::from_le_bytes),
        DataType::Float16 => each(raw, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DataType::Bfloat16 => each(raw, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => return None,
    };
    let rows = *tensor.dims.first()? as usize;
    (tensor.dims.len() > 1 && values.len() >= 256).then_some(Matrix { rows, values })
}

fn each<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    raw.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
}

/// Changes each matrix. One whose sides change becomes a tensor of two axes.
pub fn changed(model: &ModelProto, mut change: impl FnMut(usize, &mut Matrix)) -> ModelProto {
    let mut model = model.clone();
    for (i, (tensor, mut matrix)) in weights(&mut model).into_iter().enumerate() {
        let before = matrix.rows;
        change(i, &mut matrix);
        if matrix.rows != before
            || matrix.values.len() as i64 != tensor.dims.iter().product::<i64>()
        {
            tensor.dims = vec![matrix.rows as i64, matrix.columns() as i64];
        }
        store(
            tensor,
            DataType::Float,
            matrix.values.iter().flat_map(|value| value.to_le_bytes()),
        );
    }
    model
}

/// The model with weights of 16 bits.
pub fn as_float16(model: &ModelProto) -> ModelProto {
    let mut model = model.clone();
    for (tensor, Matrix { values, .. }) in weights(&mut model) {
        let bytes = values
            .iter()
            .flat_map(|value| f16::from_f32(*value).to_le_bytes());
        store(tensor, DataType::Float16, bytes);
    }
    model
}

pub fn as_bfloat16(model: &ModelProto) -> ModelProto {
    let mut model = model.clone();
    for (tensor, Matrix { values, .. }) in weights(&mut model) {
        let bytes = values
            .iter()
            .flat_map(|value| bf16::from_f32(*value).to_le_bytes());
        store(tensor, DataType::Bfloat16, bytes);
    }
    model
}

/// The model with weights of 8 bits that DequantizeLinear reads: a scale for a tensor, 127 steps on
/// each side.
pub fn as_int8(model: &ModelProto) -> ModelProto {
    let mut model = model.clone();
    let (mut scales, mut nodes) = (Vec::new(), Vec::new());
    for (tensor, Matrix { values, .. }) in weights(&mut model) {
        let scale = values
            .iter()
            .fold(0.0f32, |most, value| most.max(value.abs()))
            / 127.0;
        let bytes = values
            .iter()
            .map(|value| (value / scale).round() as i8 as u8);
        store(tensor, DataType::Int8, bytes);
        let name = tensor.name().to_owned();
        let (of_8_bits, of_scale) = (format!("{name}_8"), format!("{name}_scale"));
        scales.push(raw_tensor(
            &of_scale,
            DataType::Float,
            &[],
            le_bytes(&[scale]),
        ));
        nodes.push(node("DequantizeLinear", &[&of_8_bits, &of_scale], &[&name]));
        tensor.name = Some(of_8_bits);
    }
    let graph = model.graph.as_mut().unwrap();
    graph.initializer.append(&mut scales);
    nodes.append(&mut graph.node);
    graph.node = nodes;
    model
}

/// The model with other names of weights, and these in another order.
pub fn renamed(model: &ModelProto) -> ModelProto {
    let mut model = model.clone();
    let graph = model.graph.as_mut().unwrap();
    graph.initializer.reverse();
    for (i, tensor) in graph.initializer.iter_mut().enumerate() {
        let name = format!("t{i}");
        let inputs = graph.node.iter_mut().flat_map(|node| &mut node.input);
        inputs
            .filter(|input| **input == *tensor.name())
            .for_each(|input| *input = name.clone());
        tensor.name = Some(name);
    }
    model
}

/// The model without each second of its tensors.
pub fn halved(model: &ModelProto) -> ModelProto {
    let mut model = model.clone();
    let graph = model.graph.as_mut().unwrap();
    let mut keeps = false;
    graph.initializer.retain(|tensor| {
        keeps ^= tensor.dims.len() > 1;
        keeps
    });
    model
}

fn store(tensor: &mut TensorProto, data_type: DataType, bytes: impl Iterator<Item = u8>) {
    tensor.data_type = Some(data_type as i32);
    tensor.float_data = Vec::new();
    tensor.int32_data = Vec::new();
    tensor.raw_data = Some(bytes.collect());
}
