//! Nodes whose weights meet the pixels, and the place of each pixel's weight.

mod weight;

use std::collections::HashSet;

use onnxseal_onnx::model::{Node, NodeId};

use crate::error::Result;
use crate::rewrite::value::{Atom, Axis, Of, Value};
use crate::rewrite::{refuse, train};
use onnxseal_rewrite::{Graph, Refusal};

pub(super) use weight::{Bias, Weight, quantised, through_identity};

/// The most values of a window.
const MAX_WINDOW: u64 = 1 << 22;

/// A node whose weights meet the pixels: each of its outputs is a weighted sum over a window of the
/// image, `rows x columns x channels`, and a bias.
pub(super) struct Consumer {
    pub(super) node: NodeId,
    /// The value that it reads.
    pub(super) value: Value,
    pub(super) weight: Weight,
    pub(super) bias: Bias,
    /// The factor of weighted sums relative to the bias.
    pub(super) ratio: f64,
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// Pixels from one window to the next.
    pub(super) steps: (u64, u64),
    /// Pixels before the image in the first window.
    pub(super) begin: (u64, u64),
    /// Whether windows include padding around the image.
    pub(super) is_padded: bool,
    /// Outputs of a window.
    pub(super) n_outputs: usize,
    /// Elements from the weights of one output to those of the next.
    pub(super) stride: usize,
    /// `[rows, columns, channels]`: the element of each pixel's weight, of the first output.
    pub(super) places: Vec<usize>,
    /// `[rows, columns, channels]`: the index of each pixel in a normalised patch.
    pub(super) features: Vec<usize>,
}

impl Consumer {
    /// Returns, for each block of the window, the index into `places` of each of its values.
    pub(super) fn blocks(&self, m: u64) -> impl Iterator<Item = Vec<usize>> {
        let (columns, channels) = (self.columns, self.value.gain.len() as u64);
        let corners = (0..self.rows).step_by(m as usize);
        let corners =
            corners.flat_map(move |i| (0..columns).step_by(m as usize).map(move |j| (i, j)));
        corners.map(move |(i, j)| {
            let mut block = Vec::with_capacity((m * m * channels) as usize);
            for row in i..i + m {
                let (first, last) = (row * columns + j, row * columns + j + m);
                block.extend((first * channels..last * channels).map(|place| place as usize));
            }
            block
        })
    }
}

/// The places of a small patch's pixels among the indices of an axis.
struct Patch {
    rows: u64,
    columns: u64,
    /// `[rows, columns, channels]`
    features: Vec<usize>,
}

impl Patch {
    /// Reads the indices of `axis` as pixels of a patch of `rows x columns`, each once.
    fn of(
        axis: &Axis,
        offset: (u64, u64),
        rows: u64,
        columns: u64,
        channels: u64,
    ) -> Option<Patch> {
        let n = rows.checked_mul(columns)?.checked_mul(channels)?;
        let pixels = axis.pixels().filter(|pixels| pixels.len() as u64 == n)?;
        let mut features = vec![0; pixels.len()];
        let mut seen = HashSet::with_capacity(pixels.len());
        for (i, pixel) in pixels.into_iter().enumerate() {
            let row = pixel.row.checked_add(offset.0).filter(|row| *row < rows)?;
            let column = pixel.column.checked_add(offset.1);
            let column = column.filter(|column| *column < columns)?;
            let channel = Some(pixel.channel).filter(|channel| *channel < channels)?;
            let place = (row * columns + column) * channels + channel;
            if !seen.insert(place) {
                return None;
            }
            *features.get_mut(place as usize)? = i;
        }
        Some(Patch {
            rows,
            columns,
            features,
        })
    }
}

/// Follows a Conv that reads the image.
pub(super) fn conv(
    graph: &Graph<'_>,
    id: NodeId,
    node: &Node<'_>,
    value: Value,
) -> Result<Consumer> {
    let channels = value.gain.len() as u64;
    let weight = Weight::of(graph, id, node, true, &value)?;
    if !weight.is_output_first {
        return refuse("its weights are transposed");
    }
    let dims = &graph.tensor(weight.tensor)?.dims;
    let (&[n_outputs, n_inputs, kernel_rows, kernel_columns], [batch, axis, rows, columns]) =
        (&dims[..], &value.axes[..])
    else {
        return refuse("it is no convolution over rows and columns");
    };
    let attributes = graph.attributes(node)?;
    if attributes.int("group", 1) != 1 {
        return train("it convolves groups of channels by themselves");
    }
    let kernel = (kernel_rows, kernel_columns);
    let pair = |name: &str| match attributes.ints(name) {
        None => Some((1, 1)),
        Some(&[a, b]) => Some((u64::try_from(a).ok()?, u64::try_from(b).ok()?)),
        _ => None,
    };
    let strides = pair("strides").filter(|(a, b)| *a > 0 && *b > 0);
    let strides = strides.ok_or_else(|| Refusal::new("its strides are no two numbers"))?;
    if pair("dilations") != Some((1, 1)) && kernel != (1, 1) {
        return train("it is dilated");
    }
    let steps = (rows.step(Of::Row), columns.step(Of::Column));
    let (Some(row_step), Some(column_step)) = steps else {
        return refuse("it does not read the image as channels, rows and columns");
    };
    let patch = batch
        .is_batch()
        .then(|| Patch::of(axis, value.offset, row_step, column_step, channels));
    let Some(patch) = patch
        .flatten()
        .filter(|p| p.features.len() as u64 == n_inputs)
    else {
        return refuse(format!(
            "it does not read all {channels} channels of the image in their places"
        ));
    };
    let scaled = |(a, b): (u64, u64)| Some((a.checked_mul(row_step)?, b.checked_mul(column_step)?));
    let size = (rows.size(), columns.size());
    let pads = pads(&attributes, kernel, strides, size)?;
    let large = || Refusal::new("its window is too large");
    let (all_rows, all_columns) = scaled(kernel).ok_or_else(large)?;
    let elements = kernel_rows
        .checked_mul(kernel_columns)
        .and_then(|n| n.checked_mul(n_inputs))
        .filter(|n| *n <= MAX_WINDOW);
    let elements = elements.filter(|n| n.checked_mul(n_outputs) == graph_elements(graph, &weight));
    let elements = elements.ok_or_else(large)? as usize;
    let mut places = Vec::with_capacity(elements);
    for row in 0..all_rows {
        for column in 0..all_columns {
            let within = (row % row_step) * column_step + column % column_step;
            for channel in 0..channels {
                let feature = patch.features[(within * channels + channel) as usize] as u64;
                let place = (feature * kernel_rows + row / row_step) * kernel_columns
                    + column / column_step;
                places.push(place as usize);
            }
        }
    }
    Ok(Consumer {
        node: id,
        weight,
        bias: Bias::of_slot(graph, id, node, 2, n_outputs)?,
        ratio: 1.0,
        rows: all_rows,
        columns: all_columns,
        steps: scaled(strides).ok_or_else(large)?,
        begin: scaled(pads.begin).ok_or_else(large)?,
        is_padded: pads.any,
        n_outputs: n_outputs as usize,
        stride: elements,
        features: Vec::new(),
        places,
        value,
    })
}

fn graph_elements(graph: &Graph<'_>, weight: &Weight) -> Option<u64> {
    graph
        .tensor(weight.tensor)
        .ok()
        .map(|tensor| tensor.n_elements)
}

struct Pads {
    begin: (u64, u64),
    any: bool,
}

fn pads(
    attributes: &onnxseal_rewrite::Attributes<'_>,
    kernel: (u64, u64),
    strides: (u64, u64),
    size: (Option<u64>, Option<u64>),
) -> Result<Pads> {
    let refused = |reason: &str| Refusal::new(reason);
    let auto = attributes.string("auto_pad").unwrap_or(b"NOTSET");
    let lists = match auto {
        b"NOTSET" | b"" => match attributes.ints("pads") {
            None => [0; 4],
            Some(&[a, b, c, d]) => [a, b, c, d],
            Some(_) => return Err(refused("its pads are no four numbers").into()),
        },
        b"VALID" => [0; 4],
        b"SAME_UPPER" | b"SAME_LOWER" => {
            // Below 0 if windows leave gaps: ONNX Runtime then starts within the image.
            let total = |size: Option<u64>, kernel: u64, stride: u64| {
                let n = size?.div_ceil(stride).checked_sub(1)?;
                let reached = n.checked_mul(stride)?.checked_add(kernel)?;
                reached.checked_signed_diff(size?)
            };
            let rows = total(size.0, kernel.0, strides.0);
            let columns = total(size.1, kernel.1, strides.1);
            let (Some(rows), Some(columns)) = (rows, columns) else {
                return Err(refused("its padding depends on the size of the image")
                    .advise("export the model with a fixed image size")
                    .into());
            };
            let begin = |total: i64| match auto {
                b"SAME_UPPER" => total / 2,
                _ => total - total / 2,
            };
            let (top, left) = (begin(rows), begin(columns));
            [top, left, rows - top, columns - left]
        }
        _ => return Err(refused("its padding is not known").into()),
    };
    let [top, left, ..] = lists;
    match (u64::try_from(top), u64::try_from(left)) {
        (Ok(top), Ok(left)) if lists.iter().all(|pad| *pad >= 0) => Ok(Pads {
            begin: (top, left),
            any: lists.iter().any(|pad| *pad > 0),
        }),
        _ => Err(refused("it takes a part of the image")
            .advise("crop images before they are transformed")
            .into()),
    }
}

/// Follows a MatMul or Gemm of patches of the image.
pub(super) fn matmul(
    graph: &Graph<'_>,
    id: NodeId,
    node: &Node<'_>,
    value: Value,
) -> Result<Consumer> {
    let channels = value.gain.len() as u64;
    let Some((last, outer)) = value
        .axes
        .clone()
        .split_last()
        .map(|(l, o)| (l.clone(), o.to_vec()))
    else {
        return refuse("it reads a single number");
    };
    let attributes = graph.attributes(node)?;
    let is_gemm = node.op_type == "Gemm";
    if is_gemm && attributes.int("transA", 0) != 0 {
        return refuse("it reads patches as columns");
    }
    let is_transposed = is_gemm && attributes.int("transB", 0) != 0;
    let weight = Weight::of(graph, id, node, is_transposed, &value)?;
    let is_output_first = weight.is_output_first;
    let dims = &graph.tensor(weight.tensor)?.dims;
    let &[first, second] = &dims[..] else {
        return refuse("its weights are no matrix");
    };
    let (n_outputs, n_inputs) = if is_output_first {
        (first, second)
    } else {
        (second, first)
    };
    let windows = |of: Of| {
        let parts = outer.iter().filter_map(|axis| match axis {
            Axis::Atoms(atoms) => Some(atoms),
            Axis::Pixels(_) => None,
        });
        let parts: Vec<Atom> = parts
            .flatten()
            .copied()
            .filter(|atom| atom.of == of)
            .collect();
        parts
    };
    let size = |of: Of| {
        // With one window per image, the pixels give its size.
        let pixels = last.pixels()?;
        pixels
            .iter()
            .map(|pixel| match of {
                Of::Row => pixel.row,
                _ => pixel.column,
            })
            .max()
            .map(|most| most + 1)
    };
    let side = |of: Of| match &windows(of)[..] {
        [] => size(of),
        parts => parts.iter().map(|atom| atom.step).min(),
    };
    let is_odd = windows(Of::Channel).iter().any(|atom| atom.size != Some(1));
    let sides = (side(Of::Row), side(Of::Column));
    let patch = match sides {
        (Some(rows), Some(columns)) if !is_odd => {
            Patch::of(&last, value.offset, rows, columns, channels)
        }
        _ => None,
    };
    let patch = patch.filter(|patch| patch.features.len() as u64 == n_inputs);
    let Some(patch) = patch else {
        return train("it does not read whole patches of the image");
    };
    let stride = if is_output_first { n_inputs } else { 1 } as usize;
    let of_feature = if is_output_first { 1 } else { n_outputs } as usize;
    let places = patch.features.iter().map(|f| f * of_feature).collect();
    let bias = match is_gemm {
        false => Bias::after(graph, node, n_outputs)?,
        true => Bias::of_slot(graph, id, node, 2, n_outputs)?,
    };
    let ratio = if is_gemm {
        attributes.float("alpha", 1.0) / attributes.float("beta", 1.0)
    } else {
        1.0
    };
    Ok(Consumer {
        node: id,
        weight,
        bias,
        ratio,
        rows: patch.rows,
        columns: patch.columns,
        steps: (patch.rows, patch.columns),
        begin: (0, 0),
        is_padded: false,
        n_outputs: n_outputs as usize,
        stride,
        places,
        features: patch.features,
        value,
    })
}

/// Fails unless blocks lie wholly within windows.
pub(super) fn check_block(consumer: &Consumer, block: u64) -> std::result::Result<(), Refusal> {
    let Consumer {
        rows,
        columns,
        steps,
        begin,
        ..
    } = consumer;
    let of = [
        ("window", rows, columns),
        ("stride", &steps.0, &steps.1),
        ("padding", &begin.0, &begin.1),
    ];
    for (what, down, across) in of {
        if !down.is_multiple_of(block) || !across.is_multiple_of(block) {
            return Err(Refusal::new(format!(
                "its {what} has {down} x {across} pixels, which blocks of {block} x {block} do not divide"
            ))
            .advise("`inputs inspect` shows which blocks are possible, if any; otherwise train the model on transformed images: `inputs encrypt` transforms data sets"));
        }
    }
    Ok(())
}
