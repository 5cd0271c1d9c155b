//! Nodes whose weights meet the pixels, and the place of each pixel's weight.

mod weight;

use onnxseal_onnx::model::{Node, NodeId};

use crate::rewrite::value::{Atom, Axis, Of, Pixel, Value};
use crate::rewrite::{advise, refuse, train};
use onnxseal_rewrite::{Attributes, Graph, Refusal, Result};

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

/// Reads the indices of `axis` as pixels of a patch of `rows x columns x channels`, each once.
/// Returns the index of each pixel.
fn features(
    axis: &Axis,
    offset: (u64, u64),
    (rows, columns, channels): (u64, u64, u64),
) -> Option<Vec<usize>> {
    let n = rows.checked_mul(columns)?.checked_mul(channels)?;
    let pixels = axis.pixels().filter(|pixels| pixels.len() as u64 == n)?;
    let mut features = vec![None; pixels.len()];
    for (i, pixel) in pixels.into_iter().enumerate() {
        let row = pixel.row.checked_add(offset.0).filter(|row| *row < rows)?;
        let column = pixel.column.checked_add(offset.1);
        let column = column.filter(|column| *column < columns)?;
        let channel = Some(pixel.channel).filter(|channel| *channel < channels)?;
        let place = (row * columns + column) * channels + channel;
        let before = features.get_mut(place as usize)?.replace(i);
        before.is_none().then_some(())?;
    }
    features.into_iter().collect()
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
    let tensor = graph.tensor(weight.tensor)?;
    let (&[n_outputs, n_inputs, kernel_rows, kernel_columns], [batch, axis, rows, columns]) =
        (&tensor.dims[..], &value.axes[..])
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
    let Some(strides) = pair("strides").filter(|(a, b)| *a > 0 && *b > 0) else {
        return refuse("its strides are no two numbers");
    };
    if pair("dilations") != Some((1, 1)) && kernel != (1, 1) {
        return train("it is dilated");
    }
    let (Some(row_step), Some(column_step)) = (rows.step(Of::Row), columns.step(Of::Column)) else {
        return refuse("it does not read the image as channels, rows and columns");
    };
    let features = match batch.is_batch() {
        true => features(axis, value.offset, (row_step, column_step, channels)),
        false => None,
    };
    let Some(features) = features.filter(|features| features.len() as u64 == n_inputs) else {
        return refuse(format!(
            "it does not read all {channels} channels of the image in their places"
        ));
    };
    let (before, is_padded) = pads(&attributes, kernel, strides, (rows.size(), columns.size()))?;
    let scaled = |(a, b): (u64, u64)| Some((a.checked_mul(row_step)?, b.checked_mul(column_step)?));
    let stride = (kernel_rows.checked_mul(kernel_columns))
        .and_then(|n| n.checked_mul(n_inputs))
        .filter(|n| *n <= MAX_WINDOW && n.checked_mul(n_outputs) == Some(tensor.n_elements));
    let (Some(stride), Some((all_rows, all_columns)), Some(steps), Some(begin)) =
        (stride, scaled(kernel), scaled(strides), scaled(before))
    else {
        return refuse("its window is too large");
    };
    Ok(Consumer {
        node: id,
        weight,
        bias: Bias::of_slot(graph, id, node, 2, n_outputs)?,
        ratio: 1.0,
        rows: all_rows,
        columns: all_columns,
        steps,
        begin,
        is_padded,
        n_outputs: n_outputs as usize,
        stride: stride as usize,
        places: conv_places(&features, kernel, (row_step, column_step)),
        features: Vec::new(),
        value,
    })
}

/// Returns the place of each pixel's weight in a kernel over values of `features`, each of which are
/// patches of pixels of this size.
fn conv_places(
    features: &[usize],
    (rows, columns): (u64, u64),
    (row_step, column_step): (u64, u64),
) -> Vec<usize> {
    let channels = features.len() / (row_step * column_step).max(1) as usize;
    let kernel = (rows * columns) as usize;
    let of_pixel = |(row, column): (u64, u64)| {
        let within = (row % row_step) * column_step + column % column_step;
        let place = (row / row_step * columns + column / column_step) as usize;
        let of_pixel = features.iter().skip(within as usize * channels);
        of_pixel
            .take(channels)
            .map(move |feature| feature * kernel + place)
    };
    let all_columns = columns * column_step;
    let all_rows = 0..rows * row_step;
    let pixels = all_rows.flat_map(|row| (0..all_columns).map(move |column| (row, column)));
    pixels.flat_map(of_pixel).collect()
}

/// Returns the pixels before the image in the first window, and whether there are any around it.
fn pads(
    attributes: &Attributes<'_>,
    kernel: (u64, u64),
    strides: (u64, u64),
    size: (Option<u64>, Option<u64>),
) -> Result<((u64, u64), bool)> {
    let auto = attributes.string("auto_pad").unwrap_or(b"NOTSET");
    let lists = match auto {
        b"NOTSET" | b"" => match attributes.ints("pads") {
            None => [0; 4],
            Some(&[a, b, c, d]) => [a, b, c, d],
            Some(_) => return refuse("its pads are no four numbers"),
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
                return advise(
                    "its padding depends on the size of the image",
                    "export the model with a fixed image size",
                );
            };
            let begin = |total: i64| match auto {
                b"SAME_UPPER" => total / 2,
                _ => total - total / 2,
            };
            let (top, left) = (begin(rows), begin(columns));
            [top, left, rows - top, columns - left]
        }
        _ => return refuse("its padding is not known"),
    };
    let [top, left, ..] = lists;
    match (u64::try_from(top), u64::try_from(left)) {
        (Ok(top), Ok(left)) if lists.iter().all(|pad| *pad >= 0) => {
            Ok(((top, left), lists.iter().any(|pad| *pad > 0)))
        }
        _ => advise(
            "it takes a part of the image",
            "crop images before they are transformed",
        ),
    }
}

/// Follows a MatMul or Gemm of patches of the image.
pub(super) fn matmul(
    graph: &Graph<'_>,
    id: NodeId,
    node: &Node<'_>,
    value: Value,
) -> Result<Consumer> {
    let attributes = graph.attributes(node)?;
    let is_gemm = node.op_type == "Gemm";
    if is_gemm && attributes.int("transA", 0) != 0 {
        return refuse("it reads patches as columns");
    }
    let is_transposed = is_gemm && attributes.int("transB", 0) != 0;
    let weight = Weight::of(graph, id, node, is_transposed, &value)?;
    let &[first, second] = &graph.tensor(weight.tensor)?.dims[..] else {
        return refuse("its weights are no matrix");
    };
    let (n_outputs, n_inputs, stride, of_feature) = match weight.is_output_first {
        true => (first, second, second, 1),
        false => (second, first, 1, second),
    };
    let patch = patch(&value).filter(|(_, features)| features.len() as u64 == n_inputs);
    let Some(((rows, columns), features)) = patch else {
        return train("it does not read whole patches of the image");
    };
    let (bias, ratio) = if is_gemm {
        let ratio = attributes.float("alpha", 1.0) / attributes.float("beta", 1.0);
        (Bias::of_slot(graph, id, node, 2, n_outputs)?, ratio)
    } else {
        (Bias::after(graph, node, n_outputs)?, 1.0)
    };
    Ok(Consumer {
        node: id,
        weight,
        bias,
        ratio,
        rows,
        columns,
        steps: (rows, columns),
        begin: (0, 0),
        is_padded: false,
        n_outputs: n_outputs as usize,
        stride: stride as usize,
        places: features.iter().map(|f| f * of_feature as usize).collect(),
        features,
        value,
    })
}

/// Returns rows and columns of the patches of which the last axis has the pixels, and the index of
/// each pixel.
fn patch(value: &Value) -> Option<((u64, u64), Vec<usize>)> {
    let (last, outer) = value.axes.split_last()?;
    let atoms = outer.iter().filter_map(|axis| match axis {
        Axis::Atoms(atoms) => Some(atoms),
        Axis::Pixels(_) => None,
    });
    let outer: Vec<Atom> = atoms.flatten().copied().collect();
    if outer
        .iter()
        .any(|atom| atom.of == Of::Channel && atom.size != Some(1))
    {
        return None;
    }
    let side = |of: Of| {
        let steps = outer
            .iter()
            .filter(|atom| atom.of == of)
            .map(|atom| atom.step);
        // With one window per image, the pixels give its size.
        steps.min().or_else(|| {
            let place = |pixel: Pixel| match of {
                Of::Row => pixel.row,
                _ => pixel.column,
            };
            last.pixels()?.into_iter().map(place).max()?.checked_add(1)
        })
    };
    let (rows, columns) = (side(Of::Row)?, side(Of::Column)?);
    let size = (rows, columns, value.gain.len() as u64);
    Some(((rows, columns), features(last, value.offset, size)?))
}

/// Fails unless blocks lie wholly within windows.
pub(super) fn check_block(consumer: &Consumer, block: u64) -> std::result::Result<(), Refusal> {
    let of = [
        ("window", (consumer.rows, consumer.columns)),
        ("stride", consumer.steps),
        ("padding", consumer.begin),
    ];
    for (what, (down, across)) in of {
        if !down.is_multiple_of(block) || !across.is_multiple_of(block) {
            return Err(Refusal::new(format!(
                "its {what} has {down} x {across} pixels, which blocks of {block} x {block} do not divide"
            ))
            .advise("`inputs inspect` shows which blocks are possible, if any; otherwise train the model on transformed images: `inputs encrypt` transforms data sets"));
        }
    }
    Ok(())
}
