//! The weights that meet the pixels, as one matrix, which an attacker compares with a public
//! model's.

use nalgebra::DMatrix;
use onnxseal_rewrite::{Graph, Result, Source};

use crate::key::Spec;
use crate::rewrite::consumer::check_block;
use crate::rewrite::front;
use crate::rewrite::start::{Start, check_source, of_inputs};

/// Returns the weights of a model that a key of this kind would change: `[D, n]`, a row for each
/// output and each block of its window, a column for each value of a block.
pub fn patch(source: &Source<'_>, spec: &Spec) -> Result<DMatrix<f64>> {
    check_source(source)?;
    let graph = Graph::new(*source);
    let found = of_inputs(source, &graph, None, |input| {
        let start = Start::new(input, spec.layout, spec.channels, Some(spec))?;
        front::follow(&graph, input.name, start.value)
    })?;
    let mut rows = Vec::new();
    for consumer in found.into_iter().next().unwrap_or_default() {
        let node = graph.node(consumer.node)?;
        check_block(&consumer, u64::from(spec.block)).map_err(|refusal| refusal.at(node))?;
        let weights = graph.load(consumer.weight.tensor)?;
        for output in 0..consumer.n_outputs {
            for i in consumer.blocks(u64::from(spec.block)).flatten() {
                rows.push(weights.get(output * consumer.stride + consumer.places[i]));
            }
        }
    }
    let n = spec.block_values();
    Ok(DMatrix::from_row_iterator(rows.len() / n.max(1), n, rows))
}
