//! The weights that meet the pixels, as one matrix, which an attacker compares with a public
//! model's.

use nalgebra::DMatrix;

use crate::error::{Error, Result};
use crate::key::Spec;
use crate::rewrite::consumer::{Consumer, check_block};
use crate::rewrite::front;
use crate::rewrite::start::{Start, check_source, inputs};
use onnxseal_rewrite::Refusal;
use onnxseal_rewrite::{Graph, Source};

/// Returns the weights of a model that a key of this kind would change: `[D, n]`, a row for each
/// output and each block of its window, a column for each value of a block.
pub fn patch(source: &Source<'_>, spec: &Spec) -> Result<DMatrix<f64>> {
    check_source(source)?;
    let graph = Graph::new(*source);
    let mut found = None;
    let mut refused = None;
    for input in inputs(source, &graph)? {
        let start = Start::new(&input, spec.layout, spec.channels, Some(spec));
        let consumers = start
            .map_err(Error::from)
            .and_then(|start| front::follow(&graph, input.name, start.value));
        match consumers {
            Ok(consumers) => found = found.or(Some(consumers)),
            Err(Error::Refused(refusal)) => refused = Some(refusal),
            Err(error) => return Err(error),
        }
    }
    let consumers = match (found, refused) {
        (Some(consumers), _) => consumers,
        (None, Some(refusal)) => return Err(Error::Refused(refusal)),
        (None, None) => return Err(Refusal::new("the model has no input").into()),
    };
    let mut rows = Vec::new();
    for consumer in &consumers {
        let at = |refusal: Refusal| match graph.node(consumer.node) {
            Ok(node) => refusal.at(node).into(),
            Err(error) => error,
        };
        check_block(consumer, u64::from(spec.block)).map_err(at)?;
        rows.extend(rows_of(&graph, consumer, spec)?);
    }
    Ok(DMatrix::from_row_iterator(
        rows.len() / spec.block_values().max(1),
        spec.block_values(),
        rows,
    ))
}

/// Returns the weights row by row.
fn rows_of(graph: &Graph<'_>, consumer: &Consumer, spec: &Spec) -> Result<Vec<f64>> {
    let weights = graph.load(consumer.weight.tensor)?;
    let (block, channels) = (spec.block as usize, spec.channels as usize);
    let (down, across) = (
        consumer.rows as usize / block,
        consumer.columns as usize / block,
    );
    let mut rows = Vec::new();
    for output in 0..consumer.n_outputs {
        for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
            for (r, c) in (0..block).flat_map(|r| (0..block).map(move |c| (r, c))) {
                let pixel = (y * block + r) * consumer.columns as usize + x * block + c;
                let places = consumer.places.iter().skip(pixel * channels).take(channels);
                rows.extend(places.map(|place| weights.get(output * consumer.stride + place)));
            }
        }
    }
    Ok(rows)
}
