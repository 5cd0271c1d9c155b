//! Finds the positions added to tokens, and checks that everything after them takes tokens in any
//! order.

use std::collections::HashSet;

use onnxseal_onnx::model::{Node, TensorId};

use crate::error::Result;
use crate::rewrite::TRAIN;
use crate::rewrite::consumer::{After, Consumer};
use crate::rewrite::value::Axis;
use onnxseal_rewrite::Changes;
use onnxseal_rewrite::Graph;
use onnxseal_rewrite::Refusal;

/// The most nodes between the consumer and the positions.
const MAX_CHAIN: usize = 24;

/// Operators that, as transformers use them, treat all tokens alike or mix them in any order.
const ALIKE: [&str; 58] = [
    "Add",
    "And",
    "ArgMax",
    "Attention",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "FastGelu",
    "FusedMatMul",
    "Gather",
    "Gelu",
    "Gemm",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "MatMul",
    "MatMulInteger",
    "Mul",
    "MultiHeadAttention",
    "Neg",
    "Pow",
    "QLinearMatMul",
    "QuantizeLinear",
    "QuickGelu",
    "RMSNormalization",
    "Range",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "SkipLayerNormalization",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
];
/// More such operators.
const ALIKE_TOO: [&str; 4] = ["Sin", "Unsqueeze", "Where", "Flatten"];

/// Positions: one row of a tensor for each token.
pub(super) struct Positions {
    tensor: TensorId,
    /// Rows of tokens other than blocks, which come first.
    n_before: u64,
    /// Blocks of an image.
    pub(super) n_blocks: u32,
}

/// Finds the positions of a consumer's windows.
pub(super) fn find(graph: &Graph<'_>, consumer: &Consumer) -> Result<Positions> {
    let node = graph.node(consumer.node)?;
    let (rows, columns) = grid(consumer).map_err(|reason| Refusal::new(reason).at(node))?;
    let n_windows = rows.checked_mul(columns).filter(|n| *n <= 1 << 20);
    let n_windows = n_windows.ok_or_else(|| Refusal::new("an image has too many blocks"))?;
    let mut axes = consumer.after.clone();
    let mut name = node.outputs.first().copied().unwrap_or_default();
    for _ in 0..MAX_CHAIN {
        let next = graph
            .readers(name)
            .iter()
            .filter_map(|id| graph.node(*id).ok());
        let mut next = next.filter(|node| node.op_type != "Shape" || !node.domain.is_empty());
        let (reader, other) = (next.next(), next.next());
        if other.is_some() || graph.is_output(name) {
            let reason = "what the embedding gives is an output, or read more than once, before positions are added";
            return Err(Refusal::new(reason).advise(TRAIN).into());
        }
        let Some(reader) = reader.filter(|reader| reader.graph == graph.model().main()) else {
            break;
        };
        let size = Size {
            rows,
            columns,
            outputs: consumer.n_outputs as u64,
        };
        let at = |error: crate::Error| match error {
            crate::Error::Refused(refusal) => refusal.at(reader).into(),
            error => error,
        };
        if let Some((tensor, n_before)) = pass(graph, reader, name, &mut axes, size).map_err(at)? {
            check_after(graph, reader, n_windows.saturating_add(n_before))?;
            return Ok(Positions {
                tensor,
                n_before,
                n_blocks: n_windows as u32,
            });
        }
        name = reader.outputs.first().copied().unwrap_or_default();
    }
    Err(Refusal::new("no positions are added after the embedding").into())
}

/// Returns the rows and columns of windows.
fn grid(consumer: &Consumer) -> std::result::Result<(u64, u64), &'static str> {
    let (rows, columns) = (consumer.rows, consumer.columns);
    if (rows, columns) != consumer.steps || rows != columns || consumer.is_padded {
        return Err("its windows are not the blocks of the image side by side");
    }
    let atoms = consumer.value.axes.iter().filter_map(|axis| match axis {
        Axis::Atoms(atoms) => Some(atoms),
        Axis::Pixels(_) => None,
    });
    let (mut down, mut across) = (Some(1), Some(1));
    for atom in atoms.flatten() {
        // The rest of an axis without the pixels of a window.
        let span = |side: u64| {
            let size = atom.size?;
            match atom.step {
                step if step >= side => Some(size),
                step => Some(size.checked_mul(step)?.div_ceil(side)),
            }
        };
        match atom.of {
            crate::rewrite::value::Of::Row => down = times(down, span(rows)),
            crate::rewrite::value::Of::Column => across = times(across, span(columns)),
            _ => {}
        }
    }
    match (down, across) {
        (Some(down), Some(across)) => Ok((down, across)),
        _ => Err("the size of the image is not fixed"),
    }
}

fn times(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a?.checked_mul(b?)
}

#[derive(Clone, Copy)]
struct Size {
    rows: u64,
    columns: u64,
    outputs: u64,
}

/// Follows tokens through a node. Returns the positions if the node adds them, and how many of
/// their rows belong to other tokens than blocks.
fn pass(
    graph: &Graph<'_>,
    node: &Node<'_>,
    name: &str,
    axes: &mut Vec<After>,
    size: Size,
) -> Result<Option<(TensorId, u64)>> {
    let refused = |reason: &str| Refusal::new(reason).advise(TRAIN);
    let token_axis = axes
        .iter()
        .position(|axis| matches!(axis, After::Windows(_)));
    let n_tokens = |n_before: u64| (size.rows * size.columns).saturating_add(n_before);
    match (node.domain, node.op_type) {
        ("", "Identity" | "Cast" | "Dropout") => Ok(None),
        ("", "LayerNormalization") if axes.last() == Some(&After::Outputs) => Ok(None),
        ("", "Reshape" | "Flatten") => {
            // Rows and columns become one axis, at any position.
            let rows = axes.iter().position(|axis| *axis == After::Rows);
            let is_pair = |i: usize| axes.get(i + 1) == Some(&After::Columns);
            match (rows, token_axis) {
                (Some(i), None) if is_pair(i) && is_flat(graph, node, i, axes.len(), size)? => {
                    axes.splice(i..i + 2, [After::Windows(0)]);
                    Ok(None)
                }
                _ => Err(refused("what it makes of the tokens cannot be followed").into()),
            }
        }
        ("", "Transpose") => {
            let attributes = graph.attributes(node)?;
            let order = attributes.ints("perm").unwrap_or(&[]);
            let moved: Option<Vec<After>> = order
                .iter()
                .map(|&axis| axes.get(usize::try_from(axis).ok()?).cloned())
                .collect();
            match moved {
                Some(moved) if moved.len() == axes.len() => {
                    *axes = moved;
                    Ok(None)
                }
                _ => Err(refused("its perm is no order of the axes").into()),
            }
        }
        ("", "Concat") => {
            let axis = graph.attributes(node)?.int("axis", 0);
            let axis = if axis < 0 {
                axis + axes.len() as i64
            } else {
                axis
            };
            let (Some(token_axis), true) = (token_axis, node.inputs.last() == Some(&name)) else {
                return Err(refused("it does not put the tokens of blocks last").into());
            };
            if usize::try_from(axis) != Ok(token_axis) {
                return Err(refused("it brings tokens together with something else").into());
            }
            let mut more = 0u64;
            for other in node.inputs.iter().filter(|other| **other != name) {
                let rows = rows_of(graph, other, token_axis)?;
                let rows = rows.ok_or_else(|| refused("it adds tokens that are not constant"))?;
                more = more.saturating_add(rows);
            }
            if let Some(After::Windows(n_before)) = axes.get_mut(token_axis) {
                *n_before = n_before.saturating_add(more);
            }
            Ok(None)
        }
        ("", "Add") => {
            let other = node.inputs.iter().find(|other| **other != name);
            let tensor = other.and_then(|other| Some((other, graph.constant(other)?)));
            let Some((other, id)) = tensor else {
                return Err(refused("it adds what is not constant").into());
            };
            let tensor = graph.tensor(id)?;
            if tensor.n_elements == size.outputs && tensor.dims.last() == Some(&size.outputs) {
                return Ok(None);
            }
            let Some(After::Windows(n_before)) = token_axis.and_then(|axis| axes.get(axis)) else {
                return Err(refused("positions are added before tokens are in one axis").into());
            };
            let n_before = *n_before;
            let is_last = token_axis.map(|axis| axis + 2) == Some(axes.len());
            let dims = tensor.dims.iter().skip_while(|dim| **dim == 1);
            let fits = dims.copied().eq([n_tokens(n_before), size.outputs]);
            match (fits && is_last, graph.only_reader(other)) {
                (true, Some(_)) => Ok(Some((id, n_before))),
                (true, None) => Err(refused("the positions are read by another node too").into()),
                _ => Err(refused("what it adds is not one row for each token").into()),
            }
        }
        _ => Err(refused("it comes between the embedding and the positions").into()),
    }
}

/// Returns whether a Reshape or Flatten joins axes `i` and `i + 1`, and keeps all others.
fn is_flat(
    graph: &Graph<'_>,
    node: &Node<'_>,
    i: usize,
    n_axes: usize,
    size: Size,
) -> Result<bool> {
    if node.op_type == "Flatten" {
        return Ok(false);
    }
    let shape = graph.integers(node.inputs.get(1).copied().unwrap_or_default())?;
    let Some(shape) = shape else {
        // The shape is computed from the batch: compare the number of axes here, and leave the rest
        // to the check run.
        return computed_rank(graph, node).map(|rank| rank == Some(n_axes - 1));
    };
    let n = (size.rows * size.columns) as i64;
    let tokens_fit = shape.get(i).is_some_and(|dim| [n, -1].contains(dim));
    let outputs = if i == 1 { n_axes - 2 } else { 1 };
    let outputs_fit = shape
        .get(outputs)
        .is_some_and(|dim| [size.outputs as i64, 0, -1].contains(dim));
    Ok(shape.len() == n_axes - 1 && tokens_fit && outputs_fit)
}

/// Returns the number of axes of a computed shape: the parts of a Concat of single numbers.
fn computed_rank(graph: &Graph<'_>, node: &Node<'_>) -> Result<Option<usize>> {
    let name = node.inputs.get(1).copied().unwrap_or_default();
    let Some((_, node)) = graph.producer(name) else {
        return Ok(None);
    };
    if node.op_type != "Concat" {
        return Ok(None);
    }
    let mut n = 0;
    for input in &node.inputs {
        n += match graph.small(input)? {
            Some(small) => small.values.len(),
            None => match graph.producer(input) {
                Some((_, part)) if part.op_type == "Unsqueeze" => 1,
                Some((_, part)) if part.op_type == "Slice" => match sliced(graph, part)? {
                    Some(n) => n,
                    None => return Ok(None),
                },
                _ => 1,
            },
        };
    }
    Ok(Some(n))
}

/// Returns how many numbers a Slice takes from the beginning of a list.
fn sliced(graph: &Graph<'_>, node: &Node<'_>) -> Result<Option<usize>> {
    let one = |slot: usize| -> Result<Option<i64>> {
        let name = node.inputs.get(slot).copied().unwrap_or_default();
        let numbers = graph.integers(name)?;
        Ok(numbers.and_then(|numbers| match numbers[..] {
            [one] => Some(one),
            _ => None,
        }))
    };
    Ok(match (one(1)?, one(2)?) {
        (Some(start), Some(end)) if start >= 0 => {
            end.checked_sub(start).and_then(|n| usize::try_from(n).ok())
        }
        _ => None,
    })
}

/// Returns the size of an axis of a constant, which may be expanded along others.
fn rows_of(graph: &Graph<'_>, name: &str, axis: usize) -> Result<Option<u64>> {
    let mut name = name;
    for _ in 0..MAX_CHAIN {
        if let Some(tensor) = graph.constant(name) {
            return Ok(graph.tensor(tensor)?.dims.get(axis).copied());
        }
        let Some((_, node)) = graph.producer(name) else {
            return Ok(None);
        };
        match node.op_type {
            "Identity" | "Cast" | "Expand" => {
                name = node.inputs.first().copied().unwrap_or_default();
            }
            // A class token with its own position.
            "Add" => {
                let mut rows = Vec::new();
                for input in &node.inputs {
                    rows.extend(
                        graph
                            .constant(input)
                            .map(|id| graph.tensor(id))
                            .transpose()?,
                    );
                }
                let of = rows.iter().filter_map(|tensor| tensor.dims.get(axis)).max();
                return Ok(of.copied());
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Fails if a node after `node` may depend on the places of tokens.
fn check_after(graph: &Graph<'_>, node: &Node<'_>, n_tokens: u64) -> Result<()> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut open: Vec<&str> = node.outputs.clone();
    while let Some(name) = open.pop() {
        for id in graph.readers(name) {
            let reader = graph.node(*id)?;
            let refused = |reason: &str| Refusal::new(reason).at(reader).advise(TRAIN);
            let is_known = ALIKE.contains(&reader.op_type) || ALIKE_TOO.contains(&reader.op_type);
            if !is_known || reader.graph != graph.model().main() {
                return Err(
                    refused("it may take the tokens of blocks for parts of an image").into(),
                );
            }
            let is_sum = matches!(reader.op_type, "Add" | "Mul" | "Sub" | "Div" | "Where");
            for input in reader.inputs.iter().filter(|_| is_sum) {
                let tensor = graph
                    .constant(input)
                    .map(|id| graph.tensor(id))
                    .transpose()?;
                let dims = tensor.map_or(&[][..], |tensor| &tensor.dims);
                if dims.len() > 1 && dims.contains(&n_tokens) {
                    return Err(refused("it has a number for each token, by its place").into());
                }
            }
            let outputs = reader.outputs.iter().filter(|output| !output.is_empty());
            open.extend(outputs.filter(|output| seen.insert(output)).copied());
        }
    }
    Ok(())
}

/// Moves the row at position `from[k]` to position k, only for the blocks.
pub(super) fn permute(
    graph: &Graph<'_>,
    positions: &Positions,
    from: &[u32],
    changes: &mut Changes,
) -> Result<()> {
    let old = graph.load(positions.tensor)?;
    let mut new = old.clone();
    let n_rows = positions.n_before as usize + from.len();
    let width = old.len().checked_div(n_rows).unwrap_or(0);
    for (k, from) in from.iter().enumerate() {
        let row = |k: usize| (positions.n_before as usize + k) * width;
        for i in 0..width {
            let value = old.get(row(*from as usize) + i);
            if !new.put(row(k) + i, value) {
                return Err(Refusal::new("the positions are no numbers").into());
            }
        }
    }
    Ok(changes.replace(graph, positions.tensor, new)?)
}
