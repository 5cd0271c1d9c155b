//! Dense layers that read the model's input.
//!
//! Such a layer makes features out of raw values, and no part of it stands in for the rest: with half of
//! its weights hidden, a linear probe on its outputs still learns from few labels what the model knows
//! (`docs/STRENGTH.md`). Convolutions do not have that weakness, and neither do later layers, which are
//! fed by others that are encrypted in part.

use std::collections::HashSet;

use onnxseal_onnx::model::Model;

use crate::classify::Classified;
use crate::rules::{self, Class};

/// For each of `model.nodes`, whether it is a dense layer that reads inputs of the model, untouched by
/// any layer before.
///
/// Operators without weights, arithmetic and normalisations let a value pass. A value that depends on
/// another layer too is none of the input's. Bodies of functions are not followed.
pub(crate) fn first_dense(model: &Model<'_>, classified: &[Classified<'_>]) -> Vec<bool> {
    let nodes = model.nodes.iter();
    let classes: Vec<Option<Class>> = nodes
        .map(|node| rules::find(node.domain, node.op_type).and_then(rules::Rule::class))
        .collect();
    let mut layers = vec![false; model.nodes.len()];
    for consumer in classified.iter().flat_map(|tensor| &tensor.consumers) {
        let index = consumer.node.index();
        let makes_features = !matches!(
            classes[index],
            None | Some(Class::Normalization | Class::Bias | Class::Arithmetic)
        );
        layers[index] |= consumer.as_weight && makes_features;
    }
    let initializers: HashSet<&str> = model.tensors.iter().map(|tensor| tensor.name).collect();
    let inputs = model
        .graphs
        .get(model.main().index())
        .map(|graph| &graph.inputs);
    let inputs = inputs.into_iter().flatten().copied();
    let mut raw: HashSet<&str> = inputs.filter(|name| !initializers.contains(name)).collect();
    let mut made: HashSet<&str> = HashSet::new();
    let mut first = vec![false; model.nodes.len()];
    for (index, node) in model.nodes.iter().enumerate() {
        let reads = |values: &HashSet<&str>| node.inputs.iter().any(|name| values.contains(name));
        let (reads_raw, reads_made) = (reads(&raw), reads(&made));
        let is_dense = layers[index] && classes[index] == Some(Class::Dense);
        first[index] = is_dense && reads_raw && !reads_made;
        let outputs = node.outputs.iter().copied().filter(|name| !name.is_empty());
        if layers[index] || reads_made {
            made.extend(outputs);
        } else if reads_raw {
            raw.extend(outputs);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use crate::classify::classify;

    /// Which of the nodes are first layers, by the name of their first output.
    fn firsts(graph: GraphBuilder) -> Vec<String> {
        let bytes = graph.encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let first = first_dense(&model, &classify(&model));
        let nodes = model.nodes.iter().zip(first);
        let nodes = nodes.filter(|(_, first)| *first);
        nodes.map(|(node, _)| node.outputs[0].to_owned()).collect()
    }

    fn with_weights(names: &[&str]) -> GraphBuilder {
        let graph = GraphBuilder::new("g")
            .input("x", &[1, 16])
            .input("mask", &[1, 16]);
        names.iter().fold(graph, |graph, name| {
            graph.initializer(weights(name, &[16, 16], 1))
        })
    }

    #[test]
    fn a_dense_layer_on_the_input_is_first_and_the_next_is_not() {
        let graph = with_weights(&["mean", "w1", "w2", "w3"])
            .node(node("Sub", &["x", "mean"], &["centred"]))
            .node(node("Flatten", &["centred"], &["flat"]))
            .node(node("Gemm", &["flat", "w1"], &["a"]))
            .node(node("Relu", &["a"], &["b"]))
            .node(node("Gemm", &["b", "w2"], &["c"]))
            .node(node("MatMul", &["flat", "w3"], &["d"]));
        assert_eq!(firsts(graph), ["a", "d"]);
    }

    #[test]
    fn what_a_layer_has_touched_is_no_input() {
        // A mask goes from the input past every layer of a transformer.
        let graph = with_weights(&["table", "filters", "w1", "w2", "w3"])
            .node(node("Conv", &["x", "filters"], &["made"]))
            .node(node("Add", &["made", "mask"], &["scores"]))
            .node(node("MatMul", &["scores", "w1"], &["a"]))
            .node(node("Concat", &["x", "made"], &["both"]))
            .node(node("MatMul", &["both", "w2"], &["b"]))
            .node(node("Conv", &["x", "w3"], &["c"]));
        assert!(firsts(graph).is_empty());
    }
}
