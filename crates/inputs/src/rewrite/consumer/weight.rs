//! The weights and the bias of a consumer.

use onnxseal_onnx::model::{Node, NodeId, TensorId};
use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::rewrite::refuse;
use crate::rewrite::value::Value;
use onnxseal_rewrite::{Graph, Refusal, Result, is_float, shown};

/// The tensor of a consumer's weights: floats, or what becomes floats.
#[derive(Debug)]
pub(in crate::rewrite) struct Weight {
    pub(in crate::rewrite) tensor: TensorId,
    /// The type of floats that the weights become.
    pub(in crate::rewrite) float: DataType,
    /// Whether the first of their axes counts outputs.
    pub(super) is_output_first: bool,
}

/// The tensor of a consumer's bias.
#[derive(Debug, PartialEq)]
pub(in crate::rewrite) enum Bias {
    Floats(TensorId),
    /// Floats that other nodes read too, and the slot for a copy.
    Shared(TensorId, usize),
    /// No bias, and a slot for one.
    Absent(usize),
    /// No bias, and no place for one.
    Impossible,
}

impl Weight {
    /// Returns the weights of a Conv, MatMul or Gemm. `is_output_first` says whether the first axis
    /// of the node's input counts outputs.
    pub(super) fn of(
        graph: &Graph<'_>,
        id: NodeId,
        node: &Node<'_>,
        mut is_output_first: bool,
        value: &Value,
    ) -> Result<Weight> {
        if value.is_integer {
            return refuse("it reads integers as floats");
        }
        let name = node.inputs.get(1).copied().unwrap_or_default();
        let mut float = None;
        let (constant, nodes) = graph.back(name, |node| {
            let attributes = graph.attributes(node)?;
            let is_swap = attributes.ints("perm").is_none_or(|order| *order == [1, 0]);
            match (node.domain, node.op_type) {
                ("", "Identity") => {}
                ("", "Cast") => {
                    let to = i32::try_from(attributes.int("to", 0)).unwrap_or(0);
                    float = float.or(DataType::try_from(to).ok());
                }
                // Only for a matrix: the number of axes is checked with the weights.
                ("", "Transpose") if is_swap => is_output_first = !is_output_first,
                (_, "DequantizeLinear") => return Err(quantised().into()),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let Some(tensor) = graph.constant(constant) else {
            let name = onnxseal_onnx::excerpt(name);
            return refuse(format!("its weights {name:?} are not constant"));
        };
        if let Some((name, reader)) = first_shared(graph, id, name, &nodes)? {
            return Err(shared(graph, name, reader).into());
        }
        let found = graph.tensor(tensor)?.data_type;
        if !is_float(found) {
            return refuse("its weights are no floats");
        }
        Ok(Weight {
            tensor,
            float: float.unwrap_or(found),
            is_output_first,
        })
    }
}

/// Returns the first value that other nodes read too, on the way from `reader` back through `nodes`,
/// and its reader on the way.
fn first_shared<'g>(
    graph: &'g Graph<'_>,
    mut reader: NodeId,
    mut name: &'g str,
    nodes: &[NodeId],
) -> Result<Option<(&'g str, NodeId)>> {
    for id in nodes {
        if graph.only_reader(name) != Some(reader) {
            break;
        }
        name = graph.node(*id)?.inputs.first().copied().unwrap_or_default();
        reader = *id;
    }
    Ok((graph.only_reader(name) != Some(reader)).then_some((name, reader)))
}

/// Returns the constant that `reader` reads as `name`, perhaps through Identity, and whether no
/// other node reads it.
pub(in crate::rewrite) fn through_identity(
    graph: &Graph<'_>,
    reader: NodeId,
    name: &str,
) -> Result<Option<(TensorId, bool)>> {
    let is_identity = |node: &Node<'_>| Ok((node.domain, node.op_type) == ("", "Identity"));
    let (constant, nodes) = graph.back(name, is_identity)?;
    let Some(tensor) = graph.constant(constant) else {
        return Ok(None);
    };
    let shared = first_shared(graph, reader, name, &nodes)?;
    Ok(Some((tensor, shared.is_none())))
}

/// The refusal of what is quantised, where a key's values may have no steps of their own.
pub(in crate::rewrite) fn quantised() -> Refusal {
    Refusal::new("the model is quantised").advise("rewrite the model as it was before, and quantise the result: images that `inputs encrypt` or, in Python, `key.apply` made calibrate it")
}

fn shared(graph: &Graph<'_>, name: &str, reader: NodeId) -> Refusal {
    let others = graph.readers(name).iter().filter(|id| **id != reader);
    let other = others.filter_map(|id| graph.node(*id).ok()).next();
    let name = onnxseal_onnx::excerpt(name);
    let reason = match other {
        Some(other) => format!(
            "its weights {name:?} are those of node {} too",
            shown(other)
        ),
        None => format!("its weights {name:?} are read twice, or are an output"),
    };
    Refusal::new(reason).advise("save the model again with a copy of the weights for each node")
}

impl Bias {
    /// Returns the bias in a slot of a node.
    pub(super) fn of_slot(
        graph: &Graph<'_>,
        id: NodeId,
        node: &Node<'_>,
        slot: usize,
        n_outputs: u64,
    ) -> Result<Bias> {
        let name = match node.inputs.get(slot).copied().unwrap_or_default() {
            "" => return Ok(Bias::Absent(slot)),
            name => name,
        };
        let Some((tensor, is_alone)) = through_identity(graph, id, name)? else {
            return Ok(Bias::Impossible);
        };
        let found = graph.tensor(tensor)?;
        let is_one_each = found.dims.last() == Some(&n_outputs) && found.n_elements == n_outputs;
        Ok(match (is_one_each && is_float(found.data_type), is_alone) {
            (true, true) => Bias::Floats(tensor),
            (true, false) => Bias::Shared(tensor, slot),
            (false, _) => Bias::Impossible,
        })
    }

    /// Returns the constant that the only reader of a MatMul adds: floats, one for each output, that no
    /// other node reads.
    pub(super) fn after(graph: &Graph<'_>, node: &Node<'_>, n_outputs: u64) -> Result<Bias> {
        let output = node.outputs.first().copied().unwrap_or_default();
        let Some(id) = graph.only_reader(output) else {
            return Ok(Bias::Impossible);
        };
        let reader = graph.node(id)?;
        let other = reader.inputs.iter().find(|name| **name != output);
        let ("", "Add", Some(name)) = (reader.domain, reader.op_type, other) else {
            return Ok(Bias::Impossible);
        };
        let (constant, nodes) = graph.back(name, |node| Ok(node.op_type == "Reshape"))?;
        let Some(tensor) = graph.constant(constant) else {
            return Ok(Bias::Impossible);
        };
        let found = graph.tensor(tensor)?;
        let dims = match nodes[..] {
            [] => Some(found.dims.iter().map(|dim| *dim as i64).collect()),
            [reshape] => match graph.node(reshape)?.inputs[..] {
                [_, shape] => graph.integers(shape)?,
                _ => None,
            },
            _ => None,
        };
        let n = n_outputs as i64;
        let is_last = dims.is_some_and(|dims: Vec<i64>| match dims.split_last() {
            Some((last, before)) => [n, -1].contains(last) && before.iter().all(|dim| *dim == 1),
            None => false,
        });
        let fits = found.n_elements == n_outputs && is_float(found.data_type) && is_last;
        let is_alone = first_shared(graph, id, name, &nodes)?.is_none();
        Ok(match fits && is_alone {
            true => Bias::Floats(tensor),
            false => Bias::Impossible,
        })
    }
}
