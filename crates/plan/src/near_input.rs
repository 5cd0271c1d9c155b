//! Finds dense layers close to the model's input.
//!
//! A dense layer that reads the input makes features out of raw values. With half of its weights
//! hidden, a linear probe on its outputs still learns from few labels what the model knows
//! (`docs/STRENGTH.md`).
//!
//! A dense layer that answers from the input after one or two convolutions holds a picture of each
//! class. Any filters in place of the convolutions, even random ones, pass on where the input is
//! bright, and the visible parts of the pictures give the answer. Later layers lack that weakness.

use onnxseal_onnx::model::Model;

use crate::classify::Classified;
use crate::dataflow::{Dataflow, Kind};
use crate::plan::Whole;
use crate::rules::Class;

/// The most convolutions, one after the other, whose output is still a picture of the input.
const MAX_CONVOLUTIONS: u8 = 2;

/// Returns, for each of `model.nodes`, whether it is a dense layer that reads the model's input, or
/// one that answers from the input after at most [`MAX_CONVOLUTIONS`].
///
/// Operators without weights, arithmetic and normalisations pass a value on. A value that also
/// depends on another layer does not count as made from the input. Function bodies are not
/// followed.
pub(crate) fn near_input(
    model: &Model<'_>,
    flow: &Dataflow<'_, '_>,
    classified: &[Classified<'_>],
) -> Vec<Option<Whole>> {
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
    let readers = |id| (flow.made_by(id)).flat_map(|value| flow.readers(value));
    // Whether a layer follows the node, which then does not answer.
    let mut feeds_layer = vec![false; model.nodes.len()];
    let nodes: Vec<_> = model.nodes_with_ids().map(|(id, _)| id).collect();
    for &id in nodes.iter().rev() {
        feeds_layer[id.index()] = readers(id).any(|reader| layers[reader] || feeds_layer[reader]);
    }
    let mut reads = vec![Reads::Nothing; model.nodes.len()];
    for value in flow.inputs() {
        (flow.readers(value)).for_each(|reader| reads[reader] = Reads::Input { convolutions: 0 });
    }
    let mut near = vec![None; model.nodes.len()];
    for id in nodes {
        let is_layer = layers[id.index()];
        let makes = match (reads[id.index()], class(id)) {
            (reads, _) if !is_layer => reads,
            (Reads::Input { convolutions }, Some(Class::Convolution))
                if convolutions < MAX_CONVOLUTIONS =>
            {
                Reads::Input {
                    convolutions: convolutions + 1,
                }
            }
            (Reads::Input { convolutions }, Some(Class::Dense)) => {
                near[id.index()] = match convolutions {
                    0 => Some(Whole::ReadsInput),
                    _ if !feeds_layer[id.index()] => Some(Whole::AnswersEarly),
                    _ => None,
                };
                Reads::Made
            }
            _ => Reads::Made,
        };
        readers(id).for_each(|reader| reads[reader] = reads[reader].max(makes));
    }
    near
}

/// The origin of a node's inputs; if they differ, the last one listed here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reads {
    /// Constants.
    Nothing,
    /// The model's input, after this many convolutions.
    Input { convolutions: u8 },
    /// Outputs of other layers.
    Made,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use crate::classify::classify_in;

    /// Returns the nodes that are near the input, by the name of their first output.
    fn near(graph: GraphBuilder) -> Vec<(String, Whole)> {
        let bytes = graph.encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let near = {
            let flow = Dataflow::new(&model);
            near_input(&model, &flow, &classify_in(&model, &flow))
        };
        let nodes = model.nodes.iter().zip(near);
        let near = nodes.filter_map(|(node, near)| Some((node.outputs[0].to_owned(), near?)));
        near.collect()
    }

    fn first(name: &str) -> (String, Whole) {
        (name.to_owned(), Whole::ReadsInput)
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
        assert_eq!(near(graph), [first("a"), first("d")]);
    }

    #[test]
    fn what_a_layer_has_touched_is_no_input() {
        // A transformer's mask goes from the input to every layer.
        let graph = with_weights(&["table", "filters", "w1", "w2", "w3"])
            .node(node("Gemm", &["x", "filters"], &["made"]))
            .node(node("Add", &["made", "mask"], &["scores"]))
            .node(node("MatMul", &["scores", "w1"], &["a"]))
            .node(node("Concat", &["x", "made"], &["both"]))
            .node(node("MatMul", &["both", "w2"], &["b"]))
            .node(node("Conv", &["x", "w3"], &["c"]));
        assert_eq!(near(graph), [first("made")]);
    }

    #[test]
    fn a_dense_layer_that_answers_after_one_or_two_convolutions_is_near() {
        let convolutions = |n: usize| {
            let names = ["c0", "c1", "c2", "bias", "w1", "w2"];
            let values = ["x", "y0", "y1", "y2"];
            let graph = (0..n).fold(with_weights(&names), |graph, i| {
                graph.node(node("Conv", &[values[i], names[i]], &[values[i + 1]]))
            });
            (graph, values[n])
        };
        for (n, expected) in [
            (0, Whole::ReadsInput),
            (1, Whole::AnswersEarly),
            (2, Whole::AnswersEarly),
        ] {
            let (graph, value) = convolutions(n);
            let graph = graph
                .node(node("Flatten", &[value], &["flat"]))
                .node(node("MatMul", &["flat", "w1"], &["scores"]))
                .node(node("Add", &["scores", "bias"], &["answer"]));
            assert_eq!(near(graph), [("scores".to_owned(), expected)]);
        }
        let (graph, value) = convolutions(3);
        assert!(near(graph.node(node("MatMul", &[value, "w1"], &["scores"]))).is_empty());
        // The first dense layer feeds another, so it does not answer; the second is not near.
        let (graph, value) = convolutions(1);
        let graph = graph
            .node(node("MatMul", &[value, "w1"], &["hidden"]))
            .node(node("Relu", &["hidden"], &["positive"]))
            .node(node("MatMul", &["positive", "w2"], &["scores"]));
        assert!(near(graph).is_empty());
    }
}
