//! The weights and the bias of a consumer.

use onnxseal_onnx::model::{Node, NodeId, TensorId};
use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::error::Result;
use crate::rewrite::value::Value;
use onnxseal_rewrite::Graph;
use onnxseal_rewrite::is_float;
use onnxseal_rewrite::{Refusal, shown};

/// The most nodes through which weights pass.
const MAX_CHAIN: usize = 16;

/// The tensor of a consumer's weights.
#[derive(Debug)]
pub(in crate::rewrite) struct Weight {
    pub(in crate::rewrite) tensor: TensorId,
    pub(in crate::rewrite) kind: Kind,
    /// The type of floats that the weights become.
    pub(in crate::rewrite) float: DataType,
}

/// The meaning of the elements.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rewrite) enum Kind {
    Floats,
    /// `scale (element - zero)`, with one scale and zero point for all outputs, or one for each
    /// output.
    Integers {
        zero: Vec<i64>,
        scale: Vec<f64>,
    },
}

/// The tensor of a consumer's bias.
#[derive(Debug, PartialEq)]
pub(in crate::rewrite) enum Bias {
    Floats(TensorId),
    /// Integers of this scale, one for all or one for each; if absent, of the scale of the sums.
    Integers(TensorId, Option<Vec<f64>>),
    /// Floats added to sums of integers after these are multiplied by this scale, one for all or
    /// one for each.
    Scaled(TensorId, Vec<f64>),
    /// Floats that other nodes read too, and the slot for a copy.
    Shared(TensorId, usize),
    /// No bias, and a slot for one.
    Absent(usize),
    /// No bias, and no place for one.
    Impossible,
}

impl Weight {
    /// Returns the weights of a Conv, QLinearConv or ConvInteger. Subtracts from `value` what the
    /// node subtracts from the image's integers.
    pub(super) fn of_conv(
        graph: &Graph<'_>,
        id: NodeId,
        node: &Node<'_>,
        value: &mut Value,
    ) -> Result<Weight> {
        let slots = match node.op_type {
            "Conv" => return Ok(Weight::of_slot(graph, id, node, 1, false, 0, value)?.0),
            "QLinearConv" => (2, 3, 5),
            _ => (2, 1, 3),
        };
        Ok(Weight::of_integers(graph, id, node, slots, 0, value)?.0)
    }

    /// Returns the weights of a MatMul or Gemm, and whether the first of their axes counts outputs.
    pub(super) fn of_matmul(
        graph: &Graph<'_>,
        id: NodeId,
        node: &Node<'_>,
        is_transposed: bool,
        value: &mut Value,
    ) -> Result<(Weight, bool)> {
        match node.op_type {
            "QLinearMatMul" => Weight::of_integers(graph, id, node, (2, 3, 5), 1, value),
            "MatMulInteger" => Weight::of_integers(graph, id, node, (2, 1, 3), 1, value),
            _ => Weight::of_slot(graph, id, node, 1, is_transposed, 1, value),
        }
    }

    /// Returns integers that an operator multiplies directly. `slots` has those of the image's zero
    /// point, the weights and the weights' zero point.
    fn of_integers(
        graph: &Graph<'_>,
        id: NodeId,
        node: &Node<'_>,
        slots: (usize, usize, usize),
        output_axis: usize,
        value: &mut Value,
    ) -> Result<(Weight, bool)> {
        if !value.is_integer {
            return Err(Refusal::new("it reads floats as integers").into());
        }
        let (of_image, of_weight, of_zero) = slots;
        let is_dynamic = value
            .roundings
            .iter()
            .any(|rounding| rounding.reach.is_none());
        match node.inputs.get(of_image).copied().unwrap_or_default() {
            // Its value does not depend on the order of the pixels.
            _ if is_dynamic => {}
            "" => {}
            name => match graph.small(name)?.and_then(|small| small.scalar()) {
                Some(zero) => value.shift.iter_mut().for_each(|shift| *shift -= zero),
                None => return Err(Refusal::new("the image's zero point is not constant").into()),
            },
        }
        let name = node.inputs.get(of_weight).copied().unwrap_or_default();
        let tensor = alone(graph, id, name)?;
        let zero = match node.inputs.get(of_zero).copied().unwrap_or_default() {
            "" => vec![0],
            name => graph
                .integers(name)?
                .ok_or_else(|| Refusal::new("the weights' zero point is not constant"))?,
        };
        let dims = &graph.tensor(tensor)?.dims;
        check_lengths(&zero, &[1.0], dims.get(output_axis).copied())?;
        let kind = Kind::Integers {
            zero,
            scale: vec![1.0],
        };
        let float = DataType::Undefined;
        let weight = Weight {
            tensor,
            kind,
            float,
        };
        Ok((weight, output_axis == 0))
    }

    /// Returns weights that are, or become, floats, and whether the first of their axes counts
    /// outputs, which it does if `output_axis` of the node's input is 0, or `is_transposed`.
    fn of_slot(
        graph: &Graph<'_>,
        id: NodeId,
        node: &Node<'_>,
        slot: usize,
        is_transposed: bool,
        output_axis: usize,
        value: &Value,
    ) -> Result<(Weight, bool)> {
        if value.is_integer {
            return Err(Refusal::new("it reads integers as floats").into());
        }
        let mut name = node.inputs.get(slot).copied().unwrap_or_default();
        let mut reader = id;
        let mut output_axis = if is_transposed {
            1 - output_axis
        } else {
            output_axis
        };
        let mut float = None;
        let mut quantised: Option<(Vec<i64>, Vec<f64>, i64)> = None;
        for _ in 0..MAX_CHAIN {
            if graph.constant(name).is_some() {
                let tensor = alone(graph, reader, name)?;
                let found = graph.tensor(tensor)?;
                let kind = match quantised {
                    None if is_float(found.data_type) => Kind::Floats,
                    None => return Err(Refusal::new("its weights are no floats").into()),
                    Some((zero, scale, axis)) => {
                        let n = found.dims.get(output_axis).copied();
                        check_lengths(&zero, &scale, n)?;
                        let is_one = zero.len() == 1 && scale.len() == 1;
                        let from_end = axis + found.dims.len() as i64;
                        let is_output = [axis, from_end].contains(&(output_axis as i64));
                        if !is_one && !is_output {
                            return Err(Refusal::new(
                                "its weights have a scale for each input, not for each output",
                            )
                            .into());
                        }
                        Kind::Integers { zero, scale }
                    }
                };
                let float = float.unwrap_or(found.data_type);
                let weight = Weight {
                    tensor,
                    kind,
                    float,
                };
                return Ok((weight, output_axis == 0));
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
                ("", "Transpose") if slot == 1 => {
                    let is_swap = match attributes.ints("perm") {
                        Some(order) => *order == [1, 0],
                        None => true,
                    };
                    // Only for a matrix: the number of axes is checked with the weights.
                    if !is_swap {
                        return Err(refused().into());
                    }
                    output_axis = 1 - output_axis;
                }
                ("" | "com.microsoft", "DequantizeLinear")
                    if quantised.is_none() && attributes.int("block_size", 0) == 0 =>
                {
                    let scale = node.inputs.get(1).copied().unwrap_or_default();
                    float = float.or(graph.type_of(scale));
                    let zero = match node.inputs.get(2).copied().unwrap_or_default() {
                        "" => vec![0],
                        zero => graph.integers(zero)?.ok_or_else(refused)?,
                    };
                    let scale = graph.small(scale)?.ok_or_else(refused)?.values;
                    quantised = Some((zero, scale, attributes.int("axis", 1).clamp(-64, 64)));
                }
                _ => return Err(refused().into()),
            }
            name = node.inputs.first().copied().unwrap_or_default();
            reader = id;
        }
        Err(Refusal::new("its weights come through too many nodes").into())
    }
}

fn check_lengths(zero: &[i64], scale: &[f64], n_outputs: Option<u64>) -> Result<()> {
    let fits = |len: usize| len == 1 || Some(len as u64) == n_outputs;
    if zero.iter().any(|zero| zero.unsigned_abs() > 1 << 16) {
        return Err(Refusal::new("the weights' zero point is out of range").into());
    }
    if fits(zero.len()) && fits(scale.len()) {
        Ok(())
    } else {
        Err(Refusal::new("its weights have not one scale for each output").into())
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
        if let Some((tensor, is_alone)) = through_identity(graph, id, name) {
            return Ok(match Bias::found(graph, tensor, n_outputs, None)? {
                Some(bias) if is_alone => bias,
                Some(Bias::Floats(tensor)) => Bias::Shared(tensor, slot),
                _ => Bias::Impossible,
            });
        }
        let Some((reader, node)) = graph.producer(name) else {
            return Ok(Bias::Impossible);
        };
        let (inner, scale) = match (node.op_type, &node.inputs[..]) {
            ("DequantizeLinear", [inner, scale, ..]) => (*inner, *scale),
            _ => return Ok(Bias::Impossible),
        };
        let zero = match node.inputs.get(2).copied().unwrap_or_default() {
            "" => true,
            zero => (graph.integers(zero)?).is_some_and(|zero| zero.iter().all(|zero| *zero == 0)),
        };
        let is_alone =
            graph.only_reader(name) == Some(id) && graph.only_reader(inner) == Some(reader);
        let (Some(tensor), Some(scale), true) =
            (graph.constant(inner), graph.small(scale)?, is_alone && zero)
        else {
            return Ok(Bias::Impossible);
        };
        let found = Bias::found(graph, tensor, n_outputs, Some(scale.values))?;
        Ok(found.unwrap_or(Bias::Impossible))
    }

    fn found(
        graph: &Graph<'_>,
        tensor: TensorId,
        n_outputs: u64,
        scale: Option<Vec<f64>>,
    ) -> Result<Option<Bias>> {
        let found = graph.tensor(tensor)?;
        let is_last = found.dims.last() == Some(&n_outputs);
        if !is_last || found.n_elements != n_outputs {
            return Ok(None);
        }
        Ok(match found.data_type {
            data_type if is_float(data_type) && scale.is_none() => Some(Bias::Floats(tensor)),
            DataType::Int32 => Some(Bias::Integers(tensor, scale)),
            _ => None,
        })
    }

    /// Returns the constant that the only reader of a MatMul adds, or that is added to the sums of
    /// a ConvInteger or MatMulInteger once they are floats.
    pub(super) fn after(graph: &Graph<'_>, node: &Node<'_>, n_outputs: u64) -> Result<Bias> {
        let is_convolution = node.op_type == "ConvInteger";
        let is_integer = is_convolution || node.op_type == "MatMulInteger";
        let mut scale: Option<Vec<f64>> = None;
        let mut output = node.outputs.first().copied().unwrap_or_default();
        for _ in 0..MAX_CHAIN {
            let Some(id) = graph.only_reader(output) else {
                break;
            };
            let reader = graph.node(id)?;
            let other = reader.inputs.iter().find(|name| **name != output);
            match (reader.domain, reader.op_type, other) {
                ("", "Cast", _) if is_integer => {}
                ("", "Mul", Some(other)) if is_integer && scale.is_none() => {
                    let Some(small) = graph.small(other)? else {
                        break;
                    };
                    if small.values.len() != 1 && small.values.len() as u64 != n_outputs {
                        break;
                    }
                    scale = Some(small.values);
                }
                ("", "Add", Some(other)) => {
                    return match Bias::added(graph, id, other, is_convolution, n_outputs)? {
                        Some(tensor) if is_integer => {
                            Ok(scale.map_or(Bias::Impossible, |scale| Bias::Scaled(tensor, scale)))
                        }
                        Some(tensor) => Ok(Bias::Floats(tensor)),
                        None => Ok(Bias::Impossible),
                    };
                }
                _ => break,
            }
            output = reader.outputs.first().copied().unwrap_or_default();
        }
        Ok(Bias::Impossible)
    }

    /// Returns the floats `name`, one for each output, that `reader` adds and no other node reads.
    fn added(
        graph: &Graph<'_>,
        reader: NodeId,
        name: &str,
        is_convolution: bool,
        n_outputs: u64,
    ) -> Result<Option<TensorId>> {
        let is_placed = |dims: &[i64]| {
            let end = dims.iter().rev().skip(if is_convolution { 2 } else { 0 });
            let inner = if is_convolution { 2 } else { 0 };
            let ones = dims.iter().rev().take(inner).all(|dim| *dim == 1) && dims.len() > inner;
            ones && end.enumerate().all(|(i, dim)| match i {
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
