//! Operators that move pixels.

use std::collections::HashMap;

use onnxseal_onnx::model::Node;

use crate::rewrite::value::{self, Atom, Axis, Dim, MAX_LISTED, Of, Pixel, Value};
use crate::rewrite::{TRAIN, advise, refuse};
use onnxseal_rewrite::{Graph, Refusal, Result};

/// The most nodes that compute a shape.
const MAX_DEPTH: usize = 12;

pub(super) fn transpose(graph: &Graph<'_>, node: &Node<'_>, value: &Value) -> Result<Value> {
    let n = value.axes.len();
    let attributes = graph.attributes(node)?;
    let reversed: Vec<i64> = (0..n as i64).rev().collect();
    let order = attributes.ints("perm").unwrap_or(&reversed);
    let axes: Option<Vec<Axis>> = order
        .iter()
        .map(|&axis| value.axes.get(usize::try_from(axis).ok()?).cloned())
        .collect();
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    match axes {
        Some(axes) if sorted.iter().copied().eq(0..n as i64) => Ok(moved(value, axes)),
        _ => refuse("its perm is no order of the axes"),
    }
}

fn moved(value: &Value, axes: Vec<Axis>) -> Value {
    Value {
        axes,
        ..value.clone()
    }
}

pub(super) fn reshape(
    graph: &Graph<'_>,
    node: &Node<'_>,
    value: &Value,
    values: &HashMap<&str, Value>,
) -> Result<Value> {
    let name = node.inputs.get(1).copied().unwrap_or_default();
    let Some(shape) = shape_of(graph, name, values, 0)? else {
        return advise(
            "its shape is not constant",
            "export the model with a fixed image size, or fold constants first",
        );
    };
    let copies_zero = graph.attributes(node)?.int("allowzero", 0) == 0;
    let mut target = Vec::new();
    for (i, dim) in shape.into_iter().enumerate() {
        target.push(match dim {
            Some(0) if copies_zero => match value.axes.get(i).and_then(Axis::size) {
                Some(size) => Dim::Known(size),
                None => Dim::Open,
            },
            Some(dim) if dim > 0 => Dim::Known(dim as u64),
            _ => Dim::Open,
        });
    }
    match value::reshape(&value.axes, &target) {
        Some(axes) => Ok(moved(value, axes)),
        None => advise(
            "what it makes of the image cannot be followed",
            "export the model with a fixed image size, or fold constants first",
        ),
    }
}

/// Returns the integers of a shape that is constant, or computed from shapes; `None` for unknown
/// ones.
fn shape_of(
    graph: &Graph<'_>,
    name: &str,
    values: &HashMap<&str, Value>,
    depth: usize,
) -> Result<Option<Vec<Option<i64>>>> {
    if let Some(numbers) = graph.integers(name)? {
        return Ok(Some(numbers.into_iter().map(Some).collect()));
    }
    let Some((_, node)) = graph.producer(name).filter(|_| depth < MAX_DEPTH) else {
        return Ok(None);
    };
    let of = |slot: usize| {
        let name = node.inputs.get(slot).copied().unwrap_or_default();
        shape_of(graph, name, values, depth + 1)
    };
    Ok(match (node.domain, node.op_type) {
        ("", "Identity" | "Cast" | "Unsqueeze" | "Squeeze") => of(0)?,
        ("", "Shape") => {
            let attributes = graph.attributes(node)?;
            let is_whole = !attributes.has("start") && !attributes.has("end");
            let value = node.inputs.first().and_then(|name| values.get(name));
            let size = |axis: &Axis| axis.size().and_then(|n| i64::try_from(n).ok());
            let value = value.filter(|_| is_whole);
            value.map(|value| value.axes.iter().map(size).collect())
        }
        ("", "Gather") => match (of(0)?, of(1)?) {
            (Some(from), Some(indices)) => {
                let pick = |at: &Option<i64>| *from.get(index((*at)?, from.len())?)?;
                Some(indices.iter().map(pick).collect())
            }
            _ => None,
        },
        ("", "Mul" | "Div") => match (of(0)?.as_deref(), of(1)?.as_deref()) {
            (Some([a]), Some([b])) => Some(vec![match (a, b, node.op_type) {
                (Some(a), Some(b), "Mul") => a.checked_mul(*b),
                (Some(a), Some(b), _) => a.checked_div(*b),
                _ => None,
            }]),
            _ => None,
        },
        ("", "Concat") => {
            let mut all = Vec::new();
            for slot in 0..node.inputs.len().min(16) {
                match of(slot)? {
                    Some(part) => all.extend(part),
                    None => return Ok(None),
                }
            }
            Some(all)
        }
        _ => None,
    })
}

/// Returns the place of an index that may count from the end of `n`.
fn index(index: i64, n: usize) -> Option<usize> {
    let from_end = if index < 0 { n as i64 } else { 0 };
    usize::try_from(index.checked_add(from_end)?).ok()
}

pub(super) fn flatten(graph: &Graph<'_>, node: &Node<'_>, value: &Value) -> Result<Value> {
    let axis = graph.attributes(node)?.int("axis", 1);
    let after = index(axis, value.axes.len()).and_then(|axis| value.axes.get(axis..));
    let size = after.and_then(|axes| {
        let mut sizes = axes.iter().map(Axis::size);
        sizes.try_fold(1u64, |n, size| n.checked_mul(size?))
    });
    let axes = size.and_then(|size| value::reshape(&value.axes, &[Dim::Open, Dim::Known(size)]));
    match axes {
        Some(axes) => Ok(moved(value, axes)),
        None => advise(
            "the size of the image is not fixed",
            "export the model with a fixed image size",
        ),
    }
}

pub(super) fn space_to_depth(graph: &Graph<'_>, node: &Node<'_>, value: &Value) -> Result<Value> {
    let block = u64::try_from(graph.attributes(node)?.int("blocksize", 0)).unwrap_or(0);
    let [batch, channels, rows, columns] = &value.axes[..] else {
        return refuse("it reads no image of four axes");
    };
    let (rows, row_step) = apart(rows, Of::Row, block)?;
    let (columns, column_step) = apart(columns, Of::Column, block)?;
    let channels = channels
        .pixels()
        .ok_or_else(|| Refusal::new("channels are not known"))?;
    let large = || Refusal::new("it makes too many channels");
    let n_channels = (block.saturating_mul(block)).saturating_mul(channels.len() as u64);
    if n_channels > MAX_LISTED as u64 {
        return Err(large().into());
    }
    let mut pixels = Vec::new();
    for row in 0..block {
        for column in 0..block {
            pixels.extend(channels.iter().map(|pixel| Pixel {
                row: pixel.row + row * row_step,
                column: pixel.column + column * column_step,
                channel: pixel.channel,
            }));
        }
    }
    let axes = vec![batch.clone(), Axis::Pixels(pixels), rows, columns];
    Ok(moved(value, axes))
}

/// Takes every `block`th index of an axis. Returns its former step too.
fn apart(axis: &Axis, of: Of, block: u64) -> Result<(Axis, u64)> {
    let refused = || Refusal::new("it takes apart what are no rows and columns");
    let step = axis.step(of).ok_or_else(refused)?;
    let (size, whole) = match axis.size() {
        Some(size) => (size.checked_div(block), size.is_multiple_of(block.max(1))),
        None => (None, true),
    };
    let step_after = step
        .checked_mul(block)
        .filter(|_| whole && (1..=64).contains(&block));
    let atom = Atom {
        of,
        size,
        step: step_after.ok_or_else(refused)?,
    };
    Ok((Axis::Atoms(vec![atom]), step))
}

pub(super) fn slice(graph: &Graph<'_>, node: &Node<'_>, value: &Value) -> Result<Value> {
    let list = |slot: usize| -> Result<Option<Vec<i64>>> {
        match node.inputs.get(slot).copied().unwrap_or_default() {
            "" => Ok(None),
            name => match graph.integers(name)? {
                Some(numbers) => Ok(Some(numbers)),
                None => refuse("what it takes is not constant"),
            },
        }
    };
    let attributes = graph.attributes(node)?;
    let or_attribute = |list: Option<Vec<i64>>, name: &str| {
        list.or_else(|| attributes.ints(name).map(<[i64]>::to_vec))
    };
    let starts = or_attribute(list(1)?, "starts").unwrap_or_default();
    let ends = or_attribute(list(2)?, "ends").unwrap_or_default();
    let axes = or_attribute(list(3)?, "axes").unwrap_or((0..starts.len() as i64).collect());
    let steps = list(4)?.unwrap_or(vec![1; starts.len()]);
    let n = starts.len();
    if ends.len() != n || axes.len() != n || steps.len() != n {
        return refuse("its lists have different lengths");
    }
    let mut value = value.clone();
    for i in 0..n {
        let axis = index(axes[i], value.axes.len());
        let Some(place) = axis.and_then(|axis| value.axes.get_mut(axis)) else {
            return refuse("it has no such axis");
        };
        let whole = match place.size() {
            Some(size) => ends[i] >= 0 && ends[i] as u64 >= size,
            None => ends[i] >= i64::from(i32::MAX),
        };
        let (start, step) = (u64::try_from(starts[i]), u64::try_from(steps[i]));
        let (Ok(start), Ok(step), true) = (start, step, whole) else {
            return crop();
        };
        if (start, step) == (0, 1) {
            continue;
        }
        let of = match place.step(Of::Row) {
            Some(_) => Of::Row,
            None => Of::Column,
        };
        let (Ok((after, before)), true) = (apart(place, of, step), start < step) else {
            return crop();
        };
        *place = after;
        let offset = match of {
            Of::Row => &mut value.offset.0,
            _ => &mut value.offset.1,
        };
        *offset = offset.saturating_add(start.saturating_mul(before));
    }
    Ok(value)
}

fn crop<T>() -> Result<T> {
    advise(
        "it takes a part of the image",
        "crop images before they are transformed, and feed the model what is left",
    )
}

pub(super) fn pad(graph: &Graph<'_>, node: &Node<'_>, value: &Value) -> Result<Value> {
    let attributes = graph.attributes(node)?;
    let pads = match node.inputs.get(1) {
        Some(name) => graph.integers(name)?,
        None => attributes.ints("pads").map(<[i64]>::to_vec),
    };
    match pads {
        Some(pads) if pads.iter().all(|pad| *pad == 0) => Ok(value.clone()),
        _ => advise(
            "it pads the image outside of a convolution",
            "pad images before they are transformed, and feed the model the result",
        ),
    }
}

/// Returns the value of a Concat of strided slices of one image.
pub(super) fn concat(
    graph: &Graph<'_>,
    node: &Node<'_>,
    values: &HashMap<&str, Value>,
) -> Result<Value> {
    let refused = |reason: &str| Refusal::new(reason).advise(TRAIN);
    let parts: Option<Vec<&Value>> = node.inputs.iter().map(|name| values.get(name)).collect();
    let parts = parts.ok_or_else(|| refused("it brings the image together with something else"))?;
    let axis = graph.attributes(node)?.int("axis", 0);
    let first = *parts.first().ok_or_else(|| refused("it has no inputs"))?;
    let n = first.axes.len() as i64;
    if n != 4 || (axis != 1 && axis != 1 - n) {
        return Err(refused("it brings parts of the image together, and not as channels").into());
    }
    let mut pixels = Vec::new();
    for part in &parts {
        let same = Value {
            offset: first.offset,
            ..(*part).clone()
        };
        if same != *first {
            return Err(refused("it brings unlike parts of the image together").into());
        }
        let channels = part.axes.get(1).and_then(Axis::pixels);
        let channels = channels.ok_or_else(|| refused("channels are not known"))?;
        if pixels.len() + channels.len() > MAX_LISTED {
            return Err(refused("it makes too many channels").into());
        }
        pixels.extend(channels.into_iter().map(|pixel| Pixel {
            row: pixel.row.saturating_add(part.offset.0),
            column: pixel.column.saturating_add(part.offset.1),
            channel: pixel.channel,
        }));
    }
    let mut axes = first.axes.clone();
    if let Some(axis) = axes.get_mut(1) {
        *axis = Axis::Pixels(pixels);
    }
    Ok(Value {
        axes,
        offset: (0, 0),
        ..first.clone()
    })
}
