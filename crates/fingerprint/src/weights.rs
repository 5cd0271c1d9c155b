//! The tensors that get marks, as matrices, and how strong the mark of each element is.

use std::collections::{HashMap, HashSet};

use onnxseal_onnx::model::{FileId, Payload, Span, Tensor, TensorId};
use onnxseal_onnx::{Model, tail};
use onnxseal_rewrite::{DataType, Elements, Graph};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::numbers::floats;

/// The fewest elements of a tensor with a mark.
pub const MIN_ELEMENTS: u64 = 256;

/// Sums of a row that a processor adds side by side.
const LANES: usize = 8;

/// A deviation of fewer elements says little.
const MIN_SIDE: usize = 16;

/// Operators of ai.onnx that read tables, masks, grids and biases, whose exact values matter.
const NO_WEIGHTS: &str =
    "Add Concat Div Equal Expand Max Min Mod Mul Pad Pow Reshape Resize ScatterND Sub TopK Where";

/// A tensor with a mark, as a matrix.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    pub id: TensorId,
    pub tensor: &'a Tensor<'a>,
    pub columns: usize,
    pub file: FileId,
    pub span: Span,
}

/// Returns the tensors that get marks, in the order of the file, and their elements: those of two or
/// more dimensions that operators with weights read. Of integers, those that are read as quantised
/// weights. Fails for a model without any, or with encrypted ones, called `what` in messages.
pub fn weights<'a>(graph: &Graph<'a>, what: &'static str) -> Result<(Vec<Weight<'a>>, u64)> {
    if tail::is_in(graph.model()) {
        return Err(Error::Protected(what));
    }
    let model = graph.model();
    let mut readers: HashMap<&str, Vec<(&str, &str)>> = HashMap::new();
    for node in &model.nodes {
        for name in &node.inputs {
            let reader = (node.domain, node.op_type);
            readers.entry(name).or_default().push(reader);
        }
    }
    let shared = shared(model);
    let mut found = Vec::new();
    for (id, tensor) in model.tensors_with_ids() {
        let readers = readers.get(tensor.name).map_or(&[][..], Vec::as_slice);
        let is_weight = match tensor.data_type {
            DataType::Float | DataType::Float16 | DataType::Bfloat16 => {
                readers.iter().any(|(domain, op)| {
                    !domain.is_empty() || NO_WEIGHTS.split(' ').all(|no| no != *op)
                })
            }
            DataType::Int8 | DataType::Uint8 => {
                !readers.is_empty() && readers.iter().all(|(_, op)| is_quantised(op))
            }
            _ => false,
        };
        if is_weight && tensor.n_elements >= MIN_ELEMENTS && !shared.contains(&id) {
            found.extend(weight(id, tensor));
        }
    }
    if found.is_empty() {
        return Err(Error::Usage(format!(
            "{what} has no weights that can be marked: they are float32, float16, bfloat16 or quantised 8-bit tensors of two or more dimensions and at least {MIN_ELEMENTS} elements"
        )));
    }
    let n_elements = found.iter().map(|weight| weight.tensor.n_elements).sum();
    Ok((found, n_elements))
}

impl Weight<'_> {
    /// Reads the elements. Returns them with their digest, and the strength of the mark.
    pub fn read(&self, graph: &Graph<'_>) -> Result<(Elements, [u8; 32], Strength)> {
        let elements = graph.load(self.id)?;
        let digest = Sha256::digest(elements.raw()).into();
        let strength = Strength::of(&elements, self.columns);
        Ok((elements, digest, strength))
    }
}

/// A tensor of the original, as numbers.
pub struct Original {
    pub digest: [u8; 32],
    /// Its sides, without those of one element.
    pub dims: Vec<usize>,
    pub values: Vec<f32>,
    pub rows: usize,
    pub columns: usize,
    pub strength: Strength,
}

impl Original {
    pub fn load(graph: &Graph<'_>, weight: &Weight<'_>) -> Result<Original> {
        let (elements, digest, strength) = weight.read(graph)?;
        let dims = weight.tensor.dims.iter().map(|dim| *dim as usize);
        Ok(Original {
            digest,
            dims: dims.filter(|dim| *dim != 1).collect(),
            values: floats(elements.data_type(), elements.raw()),
            rows: elements.len() / weight.columns,
            columns: weight.columns,
            strength,
        })
    }
}

/// Returns whether an operator reads whole bytes as quantised numbers.
fn is_quantised(op: &str) -> bool {
    op == "DequantizeLinear"
        || op.starts_with("QLinear")
        || op.ends_with("Integer")
        || matches!(
            op,
            "QGemm" | "QAttention" | "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM"
        )
}

/// Returns a tensor as a matrix with a row for each output channel, if it is one and its elements
/// lie side by side.
fn weight<'a>(id: TensorId, tensor: &'a Tensor<'a>) -> Option<Weight<'a>> {
    let Payload::Dense { file, span, .. } = tensor.payload else {
        return None;
    };
    let rows = *tensor.dims.iter().find(|dim| **dim > 1)?;
    let columns = tensor.n_elements / rows;
    (columns > 1).then_some(Weight {
        id,
        tensor,
        columns: usize::try_from(columns).ok()?,
        file,
        span,
    })
}

/// Returns the tensors that share bytes with others: a change of one would change the other too.
fn shared(model: &Model<'_>) -> HashSet<TensorId> {
    let spans = model.tensors_with_ids();
    let spans = spans.filter_map(|(id, tensor)| match tensor.payload {
        Payload::Dense { file, span, .. } => Some((file, span, id)),
        _ => None,
    });
    let mut spans: Vec<_> = spans.collect();
    spans.sort_unstable();
    let mut shared = HashSet::new();
    let mut last = None;
    for (file, span, id) in spans {
        if let Some((last_file, end, last_id)) = last
            && last_file == file
            && span.start < end
        {
            shared.extend([last_id, id]);
            if span.end() <= end {
                continue;
            }
        }
        last = Some((file, span.end(), id));
    }
    shared
}

/// How strong the mark of each element is: the smaller deviation of its row and its column.
pub struct Strength {
    rows: Vec<f32>,
    columns: Vec<f32>,
    /// Whether most elements of the row are zero.
    pub sparse: Vec<bool>,
}

impl Strength {
    fn of(elements: &Elements, n_columns: usize) -> Strength {
        let raw = elements.raw();
        let row_bytes = n_columns * (raw.len() / elements.len().max(1));
        let mut columns = Sums::new(n_columns);
        let (mut rows, mut sparse) = (Vec::new(), Vec::new());
        for raw in raw.chunks_exact(row_bytes.max(1)) {
            let values = floats(elements.data_type(), raw);
            let n_zeros: u32 = values.iter().map(|value| u32::from(*value == 0.0)).sum();
            sparse.push(2 * n_zeros as usize > n_columns);
            rows.push(columns.add(&values));
        }
        Strength {
            columns: match rows.len() < MIN_SIDE {
                true => vec![f32::INFINITY; n_columns],
                false => columns.deviations(rows.len()),
            },
            rows,
            sparse,
        }
    }

    /// Returns the strengths of a row from a column on.
    pub fn row(&self, row: usize, column: usize) -> impl Iterator<Item = f32> {
        let of_row = self.rows.get(row).copied().unwrap_or(0.0);
        let columns = self.columns.get(column..).unwrap_or_default();
        columns.iter().map(move |column| of_row.min(*column))
    }
}

/// Sums of the finite elements of each column, as arrays that a processor adds side by side.
struct Sums {
    sums: Vec<f64>,
    squares: Vec<f64>,
    /// Elements that are not finite.
    n_left_out: Vec<u32>,
}

impl Sums {
    fn new(n_columns: usize) -> Sums {
        Sums {
            sums: vec![0.0; n_columns],
            squares: vec![0.0; n_columns],
            n_left_out: vec![0; n_columns],
        }
    }

    /// Adds a row, and returns the deviation in it.
    fn add(&mut self, row: &[f32]) -> f32 {
        let finite = |value: f32| f64::from(if value.is_finite() { value } else { 0.0 });
        let columns = self.sums.iter_mut().zip(&mut self.squares);
        for (value, (sum, square)) in row.iter().zip(columns) {
            let value = finite(*value);
            *sum += value;
            *square += value * value;
        }
        let (mut sum, mut square) = ([0.0; LANES], [0.0; LANES]);
        for values in row.chunks(LANES) {
            for (value, (sum, square)) in values.iter().zip(sum.iter_mut().zip(&mut square)) {
                let value = finite(*value);
                *sum += value;
                *square += value * value;
            }
        }
        let n_left_out: u32 = row.iter().map(|value| u32::from(!value.is_finite())).sum();
        if n_left_out > 0 {
            for (value, left_out) in row.iter().zip(&mut self.n_left_out) {
                *left_out += u32::from(!value.is_finite());
            }
        }
        let n = row.len() - n_left_out as usize;
        deviation(n, sum.iter().sum(), square.iter().sum())
    }

    fn deviations(&self, n_rows: usize) -> Vec<f32> {
        let sums = self.sums.iter().zip(&self.squares).zip(&self.n_left_out);
        let n = |left_out: u32| n_rows.saturating_sub(left_out as usize);
        sums.map(|((sum, square), left_out)| deviation(n(*left_out), *sum, *square))
            .collect()
    }
}

fn deviation(n: usize, sum: f64, square: f64) -> f32 {
    let n = n.max(1) as f64;
    (square / n - (sum / n).powi(2)).max(0.0).sqrt() as f32
}
