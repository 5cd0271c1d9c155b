//! Operators that compute `gain x + shift` of each channel.

use onnxseal_onnx::model::{Node, NodeId};
use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::rewrite::value::Value;
use crate::rewrite::{advise, refuse, train};
use onnxseal_rewrite::{Graph, Result, Small, is_float};

/// Returns the constant at an input of `node`.
fn constant(graph: &Graph<'_>, node: &Node<'_>, slot: usize) -> Result<Small> {
    let name = node.inputs.get(slot).copied().unwrap_or_default();
    match graph.small(name)? {
        Some(small) => Ok(small),
        None => advise(
            format!(
                "its input {:?} is no small constant",
                onnxseal_onnx::excerpt(name)
            ),
            "fold constants first, such as with onnxsim or ONNX Runtime's basic optimisations",
        ),
    }
}

/// Returns one number for each channel, from a constant that is broadcast to a value.
fn per_channel(small: &Small, value: &Value) -> Result<Vec<f64>> {
    let n = value.gain.len();
    if let Some(number) = small.scalar()
        && small.dims.len() <= value.axes.len()
    {
        return Ok(vec![number; n]);
    }
    let axes = value.axes.iter().rev().zip(small.dims.iter().rev());
    let mut fits = small.dims.len() <= value.axes.len() && small.values.len() == n;
    for (axis, dim) in axes {
        fits &= *dim == 1 || (*dim == n as u64 && axis.is_channels(n));
    }
    if fits {
        Ok(small.values.clone())
    } else {
        train("its constant is neither one number nor one for each channel")
    }
}

/// Follows Add, Sub, Mul or Div with a constant. The image is the input of `slot`.
pub(super) fn arithmetic(
    graph: &Graph<'_>,
    node: &Node<'_>,
    slot: usize,
    value: &Value,
) -> Result<Value> {
    float(value)?;
    let numbers = per_channel(&constant(graph, node, 1 - slot.min(1))?, value)?;
    let mut value = value.clone();
    for (c, number) in numbers.into_iter().enumerate() {
        let (gain, shift) = (&mut value.gain[c], &mut value.shift[c]);
        match (node.op_type, slot) {
            ("Add", _) => *shift += number,
            ("Sub", 0) => *shift -= number,
            ("Sub", _) => (*gain, *shift) = (-*gain, number - *shift),
            ("Mul", _) => (*gain, *shift) = (*gain * number, *shift * number),
            ("Div", 0) => (*gain, *shift) = (*gain / number, *shift / number),
            _ => return train("it divides by the image"),
        }
    }
    checked(value)
}

pub(super) fn batch_normalization(
    graph: &Graph<'_>,
    node: &Node<'_>,
    value: &Value,
) -> Result<Value> {
    float(value)?;
    let attributes = graph.attributes(node)?;
    let n = value.gain.len();
    let is_second = value.axes.get(1).is_some_and(|axis| axis.is_channels(n));
    if attributes.int("training_mode", 0) != 0 || !is_second {
        return refuse("it is no normalisation of channels with constants");
    }
    let epsilon = attributes.float("epsilon", 1e-5);
    let of = |slot| constant(graph, node, slot).map(|small| small.values);
    let (scale, bias, mean, variance) = (of(1)?, of(2)?, of(3)?, of(4)?);
    if [&scale, &bias, &mean, &variance]
        .iter()
        .any(|v| v.len() != n)
    {
        return refuse("its constants have not one number for each channel");
    }
    let mut value = value.clone();
    for c in 0..n {
        let factor = scale[c] / (variance[c] + epsilon).sqrt();
        value.gain[c] *= factor;
        value.shift[c] = (value.shift[c] - mean[c]) * factor + bias[c];
    }
    checked(value)
}

pub(super) fn cast(graph: &Graph<'_>, node: &Node<'_>, value: &Value) -> Result<Value> {
    let to = graph.attributes(node)?.int("to", 0);
    let to = i32::try_from(to)
        .ok()
        .and_then(|to| DataType::try_from(to).ok());
    match to {
        Some(to) if is_float(to) => Ok(Value {
            is_integer: false,
            ..value.clone()
        }),
        Some(DataType::Int32 | DataType::Int64) if value.is_integer => Ok(value.clone()),
        _ => train("it casts to a type that does not hold all pixels"),
    }
}

pub(super) fn layer_normalization(
    graph: &Graph<'_>,
    id: NodeId,
    node: &Node<'_>,
    value: &Value,
) -> Result<Value> {
    float(value)?;
    let axis = graph.attributes(node)?.int("axis", -1);
    if axis != -1 && axis != value.axes.len() as i64 - 1 {
        return train("it normalises more than the pixels of a patch");
    }
    let mut value = value.clone();
    value.norm = Some(id);
    Ok(value)
}

/// Fails if the elements are integers, whose arithmetic may overflow.
fn float(value: &Value) -> Result<()> {
    if value.is_integer {
        train("it computes with integers before any weights meet them")
    } else {
        Ok(())
    }
}

fn checked(value: Value) -> Result<Value> {
    let is_fine = |n: &f64| n.is_finite() && *n != 0.0;
    if value.gain.iter().all(is_fine) && value.shift.iter().all(|n| n.is_finite()) {
        Ok(value)
    } else {
        refuse("its constants leave nothing of a channel")
    }
}
