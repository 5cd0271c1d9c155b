//! Follows an input, value by value, to all its consumers.

mod affine;
mod shape;

use std::collections::HashMap;

use onnxseal_onnx::model::{Node, NodeId};

use crate::rewrite::consumer::{Consumer, conv, matmul, quantised};
use crate::rewrite::value::Value;
use crate::rewrite::{at, refuse, train};
use onnxseal_rewrite::{Graph, Result};

/// The most nodes between the image and its weights.
const MAX_NODES: usize = 256;

/// The operators that may read the image only as their first input.
const FIRST: [&str; 8] = [
    "BatchNormalization",
    "Conv",
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "Pad",
    "Reshape",
    "Slice",
];

/// The result of a node for values of the image.
pub(super) enum Step {
    /// Its first output is another value of the image.
    Value(Value),
    /// Its weights meet the pixels.
    Consumer(Consumer),
    /// It reads only the shape.
    Shape,
}

/// Returns all consumers of the image `start`, the value of the graph's input `input`.
pub(super) fn follow(graph: &Graph<'_>, input: &str, start: Value) -> Result<Vec<Consumer>> {
    let main = graph.model().main();
    let mut values: HashMap<&str, Value> = HashMap::new();
    values.insert(input, start);
    let mut seen: Vec<NodeId> = Vec::new();
    let mut consumers = Vec::new();
    for (id, node) in graph.model().nodes_with_ids() {
        let reads = node.inputs.iter().any(|name| values.contains_key(name));
        if !reads || graph.is_in_function(node) {
            continue;
        }
        seen.push(id);
        if seen.len() > MAX_NODES {
            let reason = "too many nodes stand between the image and its weights";
            return train(reason);
        }
        let step = match node.graph == main {
            true => step(graph, id, node, &values),
            false => train("an inner graph reads the image"),
        };
        match step.map_err(at(node))? {
            Step::Shape => {}
            Step::Consumer(consumer) => consumers.push(consumer),
            Step::Value(value) => {
                let others = node.outputs.iter().skip(1);
                for other in others.filter(|name| !name.is_empty()) {
                    if !graph.readers(other).is_empty() {
                        return refuse("its second output is read too").map_err(at(node));
                    }
                }
                values.extend(node.outputs.first().map(|name| (*name, value)));
            }
        }
    }
    for name in values.keys() {
        if graph.is_output(name) {
            let name = onnxseal_onnx::excerpt(name);
            let reason = format!("the image, as {name:?}, is an output of a graph");
            return train(reason);
        }
        // A node that reads a value before it is made was skipped.
        if graph
            .readers(name)
            .iter()
            .any(|reader| !seen.contains(reader))
        {
            return refuse("nodes are not in the order in which they run");
        }
    }
    if consumers.is_empty() {
        let name = onnxseal_onnx::excerpt(input);
        return refuse(format!("nothing reads input {name:?}"));
    }
    Ok(consumers)
}

fn step<'a>(
    graph: &Graph<'a>,
    id: NodeId,
    node: &'a Node<'a>,
    values: &HashMap<&str, Value>,
) -> Result<Step> {
    let slots: Vec<usize> = (0..node.inputs.len())
        .filter(|slot| values.contains_key(node.inputs[*slot]))
        .collect();
    if (node.domain, node.op_type) == ("", "Concat") {
        return shape::concat(graph, node, values).map(Step::Value);
    }
    let (Some(&slot), 1) = (slots.first(), slots.len()) else {
        return train("it reads the image more than once");
    };
    let Some(value) = values.get(node.inputs[slot]) else {
        return refuse("it reads the image");
    };
    if value.norm.is_some() && node.op_type != "MatMul" && node.op_type != "Gemm" {
        return refuse("it comes between a normalised patch and its weights");
    }
    if slot != 0 && node.domain.is_empty() && FIRST.contains(&node.op_type) {
        return refuse("it reads the image where it would read a constant");
    }
    let value = match (node.domain, node.op_type) {
        ("", "Shape" | "Size") => return Ok(Step::Shape),
        ("", "Identity") => value.clone(),
        ("", "Add" | "Sub" | "Mul" | "Div") => affine::arithmetic(graph, node, slot, value)?,
        ("", "BatchNormalization") => affine::batch_normalization(graph, node, value)?,
        ("", "Cast") => affine::cast(graph, node, value)?,
        ("", "Transpose") => shape::transpose(graph, node, value)?,
        ("", "Reshape") => shape::reshape(graph, node, value, values)?,
        ("", "Flatten") => shape::flatten(graph, node, value)?,
        ("", "SpaceToDepth") => shape::space_to_depth(graph, node, value)?,
        ("", "Slice") => shape::slice(graph, node, value)?,
        ("", "Pad") => shape::pad(graph, node, value)?,
        ("", "LayerNormalization") => affine::layer_normalization(graph, id, node, value)?,
        (
            _,
            "QuantizeLinear"
            | "DequantizeLinear"
            | "DynamicQuantizeLinear"
            | "QLinearConv"
            | "ConvInteger"
            | "QLinearMatMul"
            | "MatMulInteger",
        ) => return Err(quantised().into()),
        ("", "Conv") => return conv(graph, id, node, value.clone()).map(Step::Consumer),
        ("", "MatMul" | "Gemm") => {
            return matmul(graph, id, node, value.clone()).map(Step::Consumer);
        }
        _ => {
            return train("it reads the pixels before any weights meet them");
        }
    };
    Ok(Step::Value(value))
}
