//! Operators that compute `gain x + shift` of each channel.

use onnxseal_onnx::model::{Node, NodeId};
use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::error::Result;
use crate::rewrite::TRAIN;
use crate::rewrite::value::{Rounding, Value};
use onnxseal_rewrite::Refusal;
use onnxseal_rewrite::{Graph, Small};
use onnxseal_rewrite::{bounds, is_float};

/// Returns the constant at an input of `node`.
fn constant(graph: &Graph<'_>, node: &Node<'_>, slot: usize) -> Result<Small> {
    let name = node.inputs.get(slot).copied().unwrap_or_default();
    let small = graph.small(name)?;
    small.ok_or_else(|| {
        let name = onnxseal_onnx::excerpt(name);
        Refusal::new(format!("its input {name:?} is no small constant"))
            .advise(
                "fold constants first, such as with onnxsim or ONNX Runtime's basic optimisations",
            )
            .into()
    })
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
        Err(
            Refusal::new("its constant is neither one number nor one for each channel")
                .advise(TRAIN)
                .into(),
        )
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
    let mut value = plain(value);
    for (c, number) in numbers.into_iter().enumerate() {
        let (gain, shift) = (&mut value.gain[c], &mut value.shift[c]);
        match (node.op_type, slot) {
            ("Add", _) => *shift += number,
            ("Sub", 0) => *shift -= number,
            ("Sub", _) => (*gain, *shift) = (-*gain, number - *shift),
            ("Mul", _) => (*gain, *shift) = (*gain * number, *shift * number),
            ("Div", 0) => (*gain, *shift) = (*gain / number, *shift / number),
            _ => return Err(Refusal::new("it divides by the image").advise(TRAIN).into()),
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
        return Err(Refusal::new("it is no normalisation of channels with constants").into());
    }
    let epsilon = attributes.float("epsilon", 1e-5);
    let of = |slot| constant(graph, node, slot).map(|small| small.values);
    let (scale, bias, mean, variance) = (of(1)?, of(2)?, of(3)?, of(4)?);
    if [&scale, &bias, &mean, &variance]
        .iter()
        .any(|v| v.len() != n)
    {
        return Err(Refusal::new("its constants have not one number for each channel").into());
    }
    let mut value = plain(value);
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
            ..plain(value)
        }),
        Some(DataType::Int32 | DataType::Int64) if value.is_integer => Ok(plain(value)),
        _ => Err(
            Refusal::new("it casts to a type that does not hold all pixels")
                .advise(TRAIN)
                .into(),
        ),
    }
}

/// Returns scale and zero point of the whole tensor, from slots 1 and 2.
fn scale(graph: &Graph<'_>, node: &Node<'_>) -> Result<(f64, f64, Option<DataType>)> {
    let of_whole = |slot| -> Result<f64> {
        let number = constant(graph, node, slot)?.scalar();
        number.ok_or_else(|| Refusal::new("it has a scale for each channel").into())
    };
    let zero = node.inputs.get(2).copied().unwrap_or_default();
    let (zero_point, data_type) = match zero {
        "" => (0.0, None),
        name => (of_whole(2)?, graph.type_of(name)),
    };
    Ok((of_whole(1)?, zero_point, data_type))
}

pub(super) fn quantize(graph: &Graph<'_>, node: &Node<'_>, value: &Value) -> Result<Value> {
    float(value)?;
    let (scale, zero, data_type) = scale(graph, node)?;
    let data_type = match (data_type, graph.attributes(node)?.int("output_dtype", 0)) {
        (Some(data_type), _) => data_type,
        (None, 0) => DataType::Uint8,
        (None, other) => {
            let other = i32::try_from(other).ok();
            let other = other.and_then(|other| DataType::try_from(other).ok());
            other.unwrap_or(DataType::Undefined)
        }
    };
    let Some((low, high)) = bounds(data_type) else {
        return Err(Refusal::new("it quantises to a type that is not supported").into());
    };
    let mut value = plain(value);
    for (gain, shift) in value.gain.iter_mut().zip(&mut value.shift) {
        (*gain, *shift) = (*gain / scale, *shift / scale);
    }
    value.roundings.push(Rounding {
        gain: value.gain.clone(),
        shift: value.shift.clone(),
        reach: Some((low as f64 - zero, high as f64 - zero)),
    });
    value.shift.iter_mut().for_each(|shift| *shift += zero);
    value.is_integer = true;
    checked(value)
}

pub(super) fn dequantize(graph: &Graph<'_>, node: &Node<'_>, value: &Value) -> Result<Value> {
    if !value.is_integer {
        return Err(Refusal::new("it dequantises what is no integer").into());
    }
    let (scale, zero, _) = scale(graph, node)?;
    let mut value = plain(value);
    for (gain, shift) in value.gain.iter_mut().zip(&mut value.shift) {
        (*gain, *shift) = (*gain * scale, (*shift - zero) * scale);
    }
    value.is_integer = false;
    value.is_dequantised = true;
    checked(value)
}

pub(super) fn dynamic_quantize(value: &Value) -> Result<Value> {
    float(value)?;
    let mut value = plain(value);
    value.roundings.push(Rounding {
        gain: value.gain.clone(),
        shift: value.shift.clone(),
        reach: None,
    });
    // Scale and zero point are unknown, but equal for any order of the pixels, and only shuffles
    // are allowed here.
    value.is_integer = true;
    Ok(value)
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
        return Err(
            Refusal::new("it normalises more than the pixels of a patch")
                .advise(TRAIN)
                .into(),
        );
    }
    let is_read = node
        .outputs
        .iter()
        .skip(1)
        .any(|name| !graph.readers(name).is_empty());
    if is_read {
        return Err(Refusal::new("its second output is read too").into());
    }
    let mut value = plain(value);
    value.norm = Some(id);
    Ok(value)
}

/// Fails if the elements are integers, whose arithmetic may overflow.
fn float(value: &Value) -> Result<()> {
    if value.is_integer {
        Err(
            Refusal::new("it computes with integers before any weights meet them")
                .advise(TRAIN)
                .into(),
        )
    } else {
        Ok(())
    }
}

/// Returns a copy without the mark of DequantizeLinear.
fn plain(value: &Value) -> Value {
    Value {
        is_dequantised: false,
        ..value.clone()
    }
}

fn checked(value: Value) -> Result<Value> {
    let is_fine = |n: &f64| n.is_finite() && *n != 0.0;
    if value.gain.iter().all(is_fine) && value.shift.iter().all(|n| n.is_finite()) {
        Ok(value)
    } else {
        Err(Refusal::new("its constants leave nothing of a channel").into())
    }
}
