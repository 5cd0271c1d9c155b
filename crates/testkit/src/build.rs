//! Parts of models: tensors, attributes, nodes, graphs.

use onnxseal_onnx::proto::attribute_proto::AttributeType;
use onnxseal_onnx::proto::tensor_proto::{DataLocation, DataType};
use onnxseal_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use onnxseal_onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use prost::Message;

pub const OPSET: i64 = 17;

pub const IR_VERSION: i64 = 8;

/// `n` numbers in [-1, 1) that look random and depend on `seed` alone.
pub fn floats(n: usize, seed: u32) -> Vec<f32> {
    // A linear congruential generator; Numerical Recipes, 3rd ed., section 7.1.
    let mut state = seed.wrapping_add(1).wrapping_mul(2_654_435_769);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub fn le_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// A tensor with no elements anywhere yet.
pub fn bare_tensor(name: &str, data_type: DataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(data_type as i32),
        dims: dims.to_vec(),
        ..TensorProto::default()
    }
}

/// A tensor with its elements in `raw_data`.
pub fn raw_tensor(name: &str, data_type: DataType, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        raw_data: Some(bytes),
        ..bare_tensor(name, data_type, dims)
    }
}

/// A FLOAT tensor of [`floats`] in `raw_data`.
pub fn weights(name: &str, dims: &[i64], seed: u32) -> TensorProto {
    let bytes = le_bytes(&floats(n_elements(dims), seed));
    raw_tensor(name, DataType::Float, dims, bytes)
}

/// A FLOAT tensor of [`floats`] in `float_data`.
pub fn float_data(name: &str, dims: &[i64], seed: u32) -> TensorProto {
    TensorProto {
        float_data: floats(n_elements(dims), seed),
        ..bare_tensor(name, DataType::Float, dims)
    }
}

/// An INT64 tensor in `raw_data`.
pub fn int64s(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    let bytes = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    raw_tensor(name, DataType::Int64, dims, bytes)
}

/// A FLOAT tensor in an external data file.
pub fn external(
    name: &str,
    dims: &[i64],
    location: &str,
    offset: Option<u64>,
    length: Option<u64>,
) -> TensorProto {
    let mut external_data = vec![entry("location", location)];
    external_data.extend(offset.map(|offset| entry("offset", &offset.to_string())));
    external_data.extend(length.map(|length| entry("length", &length.to_string())));
    TensorProto {
        external_data,
        data_location: Some(DataLocation::External as i32),
        ..bare_tensor(name, DataType::Float, dims)
    }
}

pub fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    }
}

pub fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: Some(value),
        ..attribute(name, AttributeType::Int)
    }
}

pub fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        ints: values.to_vec(),
        ..attribute(name, AttributeType::Ints)
    }
}

/// An attribute that holds floats, a field for each.
pub fn floats_attribute(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto {
        floats: values.to_vec(),
        ..attribute(name, AttributeType::Floats)
    }
}

pub fn strings_attribute(name: &str, values: &[&str]) -> AttributeProto {
    AttributeProto {
        strings: values
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect(),
        ..attribute(name, AttributeType::Strings)
    }
}

pub fn tensor_attribute(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto {
        t: Some(value),
        ..attribute(name, AttributeType::Tensor)
    }
}

pub fn graph_attribute(name: &str, value: GraphProto) -> AttributeProto {
    AttributeProto {
        g: Some(value),
        ..attribute(name, AttributeType::Graph)
    }
}

/// A node named after its first output.
pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        name: outputs.first().map(|output| format!("make_{output}")),
        op_type: Some(op_type.to_owned()),
        input: strings(inputs),
        output: strings(outputs),
        ..NodeProto::default()
    }
}

pub fn node_with(
    op_type: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        attribute: attributes,
        ..node(op_type, inputs, outputs)
    }
}

pub fn in_domain(domain: &str, node: NodeProto) -> NodeProto {
    NodeProto {
        domain: Some(domain.to_owned()),
        ..node
    }
}

/// A Constant node with a tensor.
pub fn constant(value: TensorProto) -> NodeProto {
    let output = value.name.clone().unwrap_or_default();
    node_with(
        "Constant",
        &[],
        &[&output],
        vec![tensor_attribute("value", value)],
    )
}

/// A function with no attributes that imports `ai.onnx`.
pub fn function(
    domain: &str,
    name: &str,
    inputs: &[&str],
    outputs: &[&str],
    nodes: Vec<NodeProto>,
) -> FunctionProto {
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some(domain.to_owned()),
        input: strings(inputs),
        output: strings(outputs),
        node: nodes,
        opset_import: vec![opset("", OPSET)],
        ..FunctionProto::default()
    }
}

/// Builds a graph, and a model around it.
#[derive(Clone, Debug, Default)]
pub struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    pub fn new(name: &str) -> GraphBuilder {
        GraphBuilder {
            graph: GraphProto {
                name: Some(name.to_owned()),
                ..GraphProto::default()
            },
        }
    }

    /// Adds a FLOAT input.
    pub fn input(self, name: &str, dims: &[i64]) -> GraphBuilder {
        self.typed_input(name, DataType::Float, dims)
    }

    pub fn typed_input(mut self, name: &str, data_type: DataType, dims: &[i64]) -> GraphBuilder {
        self.graph.input.push(value_info(name, data_type, dims));
        self
    }

    /// Adds a FLOAT output.
    pub fn output(mut self, name: &str, dims: &[i64]) -> GraphBuilder {
        self.graph
            .output
            .push(value_info(name, DataType::Float, dims));
        self
    }

    pub fn initializer(mut self, tensor: TensorProto) -> GraphBuilder {
        self.graph.initializer.push(tensor);
        self
    }

    pub fn node(mut self, node: NodeProto) -> GraphBuilder {
        self.graph.node.push(node);
        self
    }

    /// The graph, for a node's attribute.
    pub fn graph(self) -> GraphProto {
        self.graph
    }

    /// A model with this graph, which imports `ai.onnx` alone.
    pub fn model(self) -> ModelProto {
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("onnxseal-testkit".to_owned()),
            opset_import: vec![opset("", OPSET)],
            graph: Some(self.graph),
            ..ModelProto::default()
        }
    }

    pub fn encode(self) -> Vec<u8> {
        self.model().encode_to_vec()
    }
}

pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    }
}

fn value_info(name: &str, data_type: DataType, dims: &[i64]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&dim| Dimension {
            value: Some(dimension::Value::DimValue(dim)),
            ..Dimension::default()
        })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: Some(data_type as i32),
        shape: Some(TensorShapeProto { dim }),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn n_elements(dims: &[i64]) -> usize {
    dims.iter().product::<i64>() as usize
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
