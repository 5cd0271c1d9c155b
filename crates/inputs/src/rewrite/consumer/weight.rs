//! The weights and the bias of a consumer.

use onnxseal_onnx::model::{Node, NodeId, TensorId};
use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::error::Result;
use crate::rewrite::refuse;
use crate::rewrite::value::Value;
use onnxseal_rewrite::{Graph, Refusal, is_float, shown};

/// The most nodes through which weights pass.
const MAX_CHAIN: usize = 16;

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
        let mut name = node.inputs.get(1).copied().unwrap_or_default();
        let mut reader = id;
        let mut float = None;
        for _ in 0..MAX_CHAIN {
            if graph.constant(name).is_some() {
                let tensor = alone(graph, reader, name)?;
                let found = graph.tensor(tensor)?.data_type;
                if !is_float(found) {
                    return refuse("its weights are no floats");
                }
                return Ok(Weight {
                    tensor,
                    float: float.unwrap_or(found),
                    is_output_first,
                });
            }
            let refused = || {
                let name = onnxseal_onnx::excerpt(name);
                Refusal::new(format!("its weights {name:?} are not constant"))
            };
            let (id, node) = graph.producer(name).ok_or_else(refused)?;
            if graph.only_reader(name) != Some(reader) {
                return Err(shared(graph, name, reader).into());
            }
            let attributes = graph.attributes(node)?;
            match (node.domain, node.op_type) {
                ("", "Identity") => {}
                ("", "Cast") => {
                    let to = i32::try_from(attributes.int("to", 0)).unwrap_or(0);
                    float = float.or(DataType::try_from(to).ok());
                }
                ("", "Transpose") => {
                    let is_swap = match attributes.ints("perm") {
                        Some(order) => *order == [1, 0],
                        None => true,
                    };
                    // Only for a matrix: the number of axes is checked with the weights.
                    if !is_swap {
                        return Err(refused().into());
                    }
                    is_output_first = !is_output_first;
                }
                (_, "DequantizeLinear") => return Err(quantised().into()),
                _ => return Err(refused().into()),
            }
            name = node.inputs.first().copied().unwrap_or_default();
            reader = id;
        }
        refuse("its weights come through too many nodes")
    }
}

/// Returns the constant `name`, which only `reader` may read.
fn alone(graph: &Graph<'_>, reader: NodeId, name: &str) -> Result<TensorId> {
    let tensor = graph.constant(name);
    let tensor = tensor.ok_or_else(|| Refusal::new("its weights or its bias are not constant"))?;
    if graph.only_reader(name) == Some(reader) {
        Ok(tensor)
    } else {
        Err(shared(graph, name, reader).into())
    }
}

/// Returns the constant that `reader` reads as `name`, perhaps through Identity, and whether no
/// other node reads it.
pub(in crate::rewrite) fn through_identity(
    graph: &Graph<'_>,
    reader: NodeId,
    name: &str,
) -> Option<(TensorId, bool)> {
    let (mut name, mut reader, mut is_alone) = (name, reader, true);
    for _ in 0..MAX_CHAIN {
        is_alone &= graph.only_reader(name) == Some(reader);
        if let Some(tensor) = graph.constant(name) {
            return Some((tensor, is_alone));
        }
        let (id, node) = graph.producer(name)?;
        if (node.domain, node.op_type) != ("", "Identity") {
            return None;
        }
        reader = id;
        name = node.inputs.first().copied()?;
    }
    None
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
        let Some((tensor, is_alone)) = through_identity(graph, id, name) else {
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

    /// Returns the constant that the only reader of a MatMul adds.
    pub(super) fn after(graph: &Graph<'_>, node: &Node<'_>, n_outputs: u64) -> Result<Bias> {
        let output = node.outputs.first().copied().unwrap_or_default();
        let Some(id) = graph.only_reader(output) else {
            return Ok(Bias::Impossible);
        };
        let reader = graph.node(id)?;
        let other = reader.inputs.iter().find(|name| **name != output);
        let added = match (reader.domain, reader.op_type, other) {
            ("", "Add", Some(other)) => Bias::added(graph, id, other, n_outputs)?,
            _ => None,
        };
        Ok(added.map_or(Bias::Impossible, Bias::Floats))
    }

    /// Returns the floats `name`, one for each output, that `reader` adds and no other node reads.
    fn added(
        graph: &Graph<'_>,
        reader: NodeId,
        name: &str,
        n_outputs: u64,
    ) -> Result<Option<TensorId>> {
        let is_placed = |dims: &[i64]| {
            !dims.is_empty()
                && dims.iter().rev().enumerate().all(|(i, dim)| match i {
                    0 => *dim == n_outputs as i64 || *dim == -1,
                    _ => *dim == 1,
                })
        };
        if graph.only_reader(name) != Some(reader) {
            return Ok(None);
        }
        let (tensor, dims) = match (graph.constant(name), graph.producer(name)) {
            (Some(tensor), _) => {
                let dims = graph.tensor(tensor)?.dims.iter();
                (tensor, Some(dims.map(|dim| *dim as i64).collect()))
            }
            (None, Some((id, node))) if node.op_type == "Reshape" => match &node.inputs[..] {
                [inner, shape] if graph.only_reader(inner) == Some(id) => {
                    match graph.constant(inner) {
                        Some(tensor) => (tensor, graph.integers(shape)?),
                        None => return Ok(None),
                    }
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let found = graph.tensor(tensor)?;
        let fits = found.n_elements == n_outputs && is_float(found.data_type);
        let is_placed = dims.is_some_and(|dims: Vec<i64>| is_placed(&dims));
        Ok((fits && is_placed).then_some(tensor))
    }
}
