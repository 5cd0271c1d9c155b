//! Adds the remainder of rewritten weights to the bias of their node.

use onnxseal_onnx::edit::{NewTensor, add_input};

use crate::rewrite::consumer::{Bias, Consumer};
use onnxseal_rewrite::{Changes, Elements, Graph, Refusal, Result, is_float};

/// Adds the shifts to the bias, or adds a bias to the consumer.
pub(super) fn add_bias(
    graph: &Graph<'_>,
    consumer: &Consumer,
    shifts: &[f64],
    changes: &mut Changes,
) -> Result<()> {
    let node = graph.node(consumer.node)?;
    let refused = |reason: &str| {
        let refusal = Refusal::new(reason).at(node);
        refusal.advise("export the model with a bias of its own for this node, or use `shuffle` alone with the same normalisation of all channels")
    };
    let ratio = consumer.ratio;
    if !ratio.is_finite() {
        return Err(refused("it takes no bias").into());
    }
    let (mut bias, dims) = match &consumer.bias {
        Bias::Floats(tensor) | Bias::Shared(tensor, _) => {
            (graph.load(*tensor)?, graph.tensor(*tensor)?.dims.clone())
        }
        Bias::Absent(_) => {
            let float = Some(consumer.weight.float).filter(|float| is_float(*float));
            let zeros = float.and_then(|float| Elements::zeros(float, consumer.n_outputs));
            let zeros = zeros.ok_or_else(|| refused("the type of its bias is not known"))?;
            (zeros, vec![consumer.n_outputs as u64])
        }
        Bias::Impossible => {
            return Err(refused("it has no bias of its own that could change").into());
        }
    };
    for (d, shift) in shifts.iter().enumerate() {
        if !bias.put(d, bias.get(d) + shift * ratio) {
            return Err(refused("its new bias is out of range").into());
        }
    }
    match &consumer.bias {
        Bias::Shared(_, slot) | Bias::Absent(slot) => {
            put_bias(graph, consumer, *slot, dims, &bias, changes)
        }
        Bias::Floats(tensor) => Ok(changes.replace(graph, *tensor, bias)?),
        Bias::Impossible => Ok(()),
    }
}

/// Adds an initializer that becomes the bias of a consumer.
fn put_bias(
    graph: &Graph<'_>,
    consumer: &Consumer,
    slot: usize,
    dims: Vec<u64>,
    bias: &Elements,
    changes: &mut Changes,
) -> Result<()> {
    let node = graph.node(consumer.node)?;
    if graph.model().ir_version.is_none_or(|version| version < 4) {
        let reason = "the model's IR version is below 4, where weights are inputs, and the node has no bias of its own";
        return Err(Refusal::new(reason)
            .at(node)
            .advise("convert the model to a newer version of ONNX")
            .into());
    }
    let weights = graph.tensor(consumer.weight.tensor)?;
    let name = graph.free_name(&format!("{}_bias", weights.name));
    let tensor = NewTensor {
        name: &name,
        data_type: bias.data_type(),
        dims: &dims,
        raw: bias.raw(),
    };
    let added = add_input(graph.source.bytes, node, slot, tensor)?;
    changes.inserts.extend(added);
    changes.tensors.push(name);
    Ok(())
}
