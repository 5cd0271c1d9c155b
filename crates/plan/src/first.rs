//! Dense layers that read the model's input.
//!
//! Such a layer makes features out of raw values, and no part of it stands in for the rest: with half of
//! its weights hidden, a linear probe on its outputs still learns from few labels what the model knows
//! (`docs/STRENGTH.md`). Convolutions do not have that weakness, and neither do later layers, which are
//! fed by others that are encrypted in part.

use onnxseal_onnx::model::Model;

use crate::classify::Classified;
use crate::dataflow::{Dataflow, Kind};
use crate::rules::Class;

/// For each of `model.nodes`, whether it is a dense layer that reads inputs of the model, untouched by
/// any layer before.
///
/// Operators without weights, arithmetic and normalisations let a value pass. A value that depends on
/// another layer too is none of the input's. Bodies of functions are not followed.
pub(crate) fn first_dense(
    model: &Model<'_>,
    flow: &Dataflow<'_, '_>,
    classified: &[Classified<'_>],
) -> Vec<bool> {
    let class = |node| match flow.kind(node) {
        Kind::Known(rule) => rule.class(),
        Kind::Call | Kind::Unknown => None,
    };
    let mut layers = vec![false; model.nodes.len()];
    for consumer in classified.iter().flat_map(|tensor| &tensor.consumers) {
        let makes_features = !matches!(
            class(consumer.node),
            None | Some(Class::Normalization | Class::Bias | Class::Arithmetic)
        );
        layers[consumer.node.index()] |= consumer.as_weight && makes_features;
    }
    let mut reads = vec![Reads::default(); model.nodes.len()];
    for value in flow.inputs() {
        (flow.readers(value)).for_each(|reader| reads[reader].raw = true);
    }
    let mut first = vec![false; model.nodes.len()];
    for (id, _) in model.nodes_with_ids() {
        let (is_layer, Reads { raw, made }) = (layers[id.index()], reads[id.index()]);
        first[id.index()] = is_layer && raw && !made && class(id) == Some(Class::Dense);
        if is_layer || made {
            (flow.made_by(id).flat_map(|value| flow.readers(value)))
                .for_each(|reader| reads[reader].made = true);
        } else if raw {
            (flow.made_by(id).flat_map(|value| flow.readers(value)))
                .for_each(|reader| reads[reader].raw = true);
        }
    }
    first
}

/// What a node reads.
#[derive(Clone, Copy, Default)]
struct Reads {
    /// A value of the model's input.
    raw: bool,
    /// A value that a layer has made.
    made: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use crate::classify::classify_in;

    /// Which of the nodes are first layers, by the name of their first output.
    fn firsts(graph: GraphBuilder) -> Vec<String> {
        let bytes = graph.encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let first = {
            let flow = Dataflow::new(&model);
            first_dense(&model, &flow, &classify_in(&model, &flow))
        };
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
