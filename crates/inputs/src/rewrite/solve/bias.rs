//! Adds the remainder of rewritten weights to the bias of their node.

use onnxseal_onnx::edit::{NewTensor, add_input};
use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::error::Result;
use crate::rewrite::consumer::{Bias, Consumer};
use onnxseal_rewrite::Changes;
use onnxseal_rewrite::Graph;
use onnxseal_rewrite::Refusal;
use onnxseal_rewrite::{Elements, is_float};

/// The shift of an output's bias.
#[derive(Clone, Copy, Default)]
pub(super) struct Shift {
    /// In units of the consumer's output.
    pub(super) of_sums: f64,
    /// In units of products of integers, if it is an integer then, with their scale.
    pub(super) integer: Option<i64>,
    pub(super) scale: f64,
}

/// Adds the shifts to the bias, or adds a bias to the consumer.
pub(super) fn add_bias(
    graph: &Graph<'_>,
    consumer: &Consumer,
    shifts: &[Shift],
    weights: DataType,
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
    match &consumer.bias {
        Bias::Floats(tensor) => {
            let mut bias = graph.load(*tensor)?;
            for (d, shift) in shifts.iter().enumerate() {
                if !bias.put(d, bias.get(d) + shift.of_sums * ratio) {
                    return Err(refused("its new bias is out of range").into());
                }
            }
            Ok(changes.replace(graph, *tensor, bias)?)
        }
        Bias::Integers(tensor, scale) => {
            let mut bias = graph.load(*tensor)?;
            add_integers(&mut bias, shifts, scale.as_deref()).ok_or_else(|| {
                refused("its bias is of integers, and what is to be added is none, or out of range")
            })?;
            Ok(changes.replace(graph, *tensor, bias)?)
        }
        Bias::Scaled(tensor, scale) => {
            let mut bias = graph.load(*tensor)?;
            for (d, shift) in shifts.iter().enumerate() {
                let scale = scale.get(d).or(scale.first()).copied().unwrap_or(1.0);
                let shift = shift.integer.map(|integer| integer as f64 * scale);
                let fits = shift.is_some_and(|shift| bias.put(d, bias.get(d) + shift));
                if !fits {
                    return Err(refused("its new bias is out of range").into());
                }
            }
            Ok(changes.replace(graph, *tensor, bias)?)
        }
        Bias::Shared(tensor, slot) => {
            let mut bias = graph.load(*tensor)?;
            let mut shifts = shifts.iter().enumerate();
            if !shifts.all(|(d, shift)| bias.put(d, bias.get(d) + shift.of_sums * ratio)) {
                return Err(refused("its new bias is out of range").into());
            }
            let dims = graph.tensor(*tensor)?.dims.clone();
            put_bias(graph, consumer, *slot, dims, &bias, changes)
        }
        Bias::Absent(slot) => {
            let is_quantised = consumer.value.is_dequantised && !is_float(weights);
            if is_quantised {
                return Err(refused("it is quantised and has no bias").into());
            }
            let is_integer = consumer.value.is_integer;
            let data_type = if is_integer {
                DataType::Int32
            } else {
                consumer.weight.float
            };
            let bias = Elements::zeros(data_type, consumer.n_outputs)
                .filter(|_| is_integer || is_float(data_type));
            let mut bias = bias.ok_or_else(|| refused("the type of its bias is not known"))?;
            let fits = if is_integer {
                add_integers(&mut bias, shifts, None).is_some()
            } else {
                let mut shifts = shifts.iter().enumerate();
                shifts.all(|(d, shift)| bias.put(d, shift.of_sums * ratio))
            };
            if !fits {
                return Err(refused("its new bias is out of range").into());
            }
            let dims = vec![consumer.n_outputs as u64];
            put_bias(graph, consumer, *slot, dims, &bias, changes)
        }
        Bias::Impossible => Err(refused("it has no bias of its own that could change").into()),
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

/// Adds integer shifts to a bias of this scale, or of the sums' own.
fn add_integers(bias: &mut Elements, shifts: &[Shift], scale: Option<&[f64]>) -> Option<()> {
    for (d, shift) in shifts.iter().enumerate() {
        if let Some(scale) = scale {
            let scale = *scale.get(d).or(scale.first())?;
            if (shift.scale / scale - 1.0).abs() > 1e-5 {
                return None;
            }
        }
        let sum = bias.int(d).checked_add(shift.integer?)?;
        bias.put_int(d, sum).then_some(())?;
    }
    Some(())
}
