//! The tensors that get marks, as matrices, and how strong the mark of each element is.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use onnxseal_onnx::model::{FileId, Payload, Span, Tensor, TensorId};
use onnxseal_onnx::{Model, tail};
use onnxseal_rewrite::{DataType, Graph, slice};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::numbers::floats;

/// The fewest elements of a tensor with a mark.
pub const MIN_ELEMENTS: u64 = 256;

/// A deviation of fewer elements says little.
const MIN_SIDE: usize = 16;

/// Operators of ai.onnx that read tables, masks, grids and biases, whose exact values matter.
const NO_WEIGHTS: [&str; 17] = [
    "Add",
    "Concat",
    "Div",
    "Equal",
    "Expand",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Pad",
    "Pow",
    "Reshape",
    "Resize",
    "ScatterND",
    "Sub",
    "TopK",
    "Where",
];

/// A tensor with a mark, as a matrix.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    pub id: TensorId,
    pub tensor: &'a Tensor<'a>,
    pub columns: usize,
    pub file: FileId,
    pub span: Span,
}

/// Fails for a model whose weights are encrypted, called `what` in messages.
pub fn check_plain(graph: &Graph<'_>, what: &'static str) -> Result<()> {
    match tail::is_in(graph.model()) {
        true => Err(Error::Protected(what)),
        false => Ok(()),
    }
}

/// Returns the tensors that get marks, in the order of the file: those of two or more dimensions
/// that operators with weights read. Of integers, those that are read as quantised weights.
pub fn weights<'a>(graph: &Graph<'a>) -> Vec<Weight<'a>> {
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
            DataType::Float | DataType::Float16 | DataType::Bfloat16 => readers
                .iter()
                .any(|(domain, op)| !domain.is_empty() || !NO_WEIGHTS.contains(op)),
            DataType::Int8 | DataType::Uint8 => {
                !readers.is_empty() && readers.iter().all(|(_, op)| is_quantised(op))
            }
            _ => false,
        };
        if is_weight && tensor.n_elements >= MIN_ELEMENTS && !shared.contains(&id) {
            found.extend(weight(id, tensor));
        }
    }
    found
}

/// Bytes to read at once; elements have 1, 2 or 4.
const PIECE: u64 = 1 << 20;

impl Weight<'_> {
    /// Reads the tensor in pieces. Returns its digest and the strength of its mark.
    pub fn read(
        &self,
        graph: &Graph<'_>,
        mut each: impl FnMut(&[f32]),
    ) -> Result<([u8; 32], Strength)> {
        let mut deviations = Deviations::new(self.columns);
        let mut digest = Sha256::new();
        let source = &graph.source;
        for start in (self.span.start..self.span.end()).step_by(PIECE as usize) {
            let len = PIECE.min(self.span.end() - start);
            let raw = match source.model.location(self.file) {
                Some(location) => Cow::Owned((source.external)(location, Span { start, len })?),
                None => slice(source.bytes, Span { start, len })
                    .unwrap_or_default()
                    .into(),
            };
            digest.update(&raw);
            let values = floats(self.tensor.data_type, &raw);
            deviations.add(&values);
            each(&values);
        }
        Ok((digest.finalize().into(), deviations.finish()))
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
    /// Returns the strengths of a row from a column on.
    pub fn row(&self, row: usize, column: usize) -> impl Iterator<Item = f32> {
        let of_row = self.rows.get(row).copied().unwrap_or(0.0);
        let columns = self.columns.get(column..).unwrap_or_default();
        columns.iter().map(move |column| of_row.min(*column))
    }
}

/// Takes in the elements of a matrix, in order.
pub struct Deviations {
    columns: Vec<Sums>,
    row: Sums,
    n_zeros: usize,
    /// The column of the next element.
    at: usize,
    found: Strength,
}

impl Deviations {
    pub fn new(columns: usize) -> Deviations {
        Deviations {
            columns: vec![Sums::default(); columns],
            row: Sums::default(),
            n_zeros: 0,
            at: 0,
            found: Strength {
                rows: Vec::new(),
                columns: Vec::new(),
                sparse: Vec::new(),
            },
        }
    }

    pub fn add(&mut self, mut values: &[f32]) {
        while !values.is_empty() {
            let n = values.len().min(self.columns.len() - self.at);
            let (part, rest) = values.split_at(n);
            for (value, column) in part.iter().zip(&mut self.columns[self.at..]) {
                self.row.add(*value);
                column.add(*value);
                self.n_zeros += usize::from(*value == 0.0);
            }
            (values, self.at) = (rest, self.at + n);
            if self.at == self.columns.len() {
                let row = std::mem::take(&mut self.row);
                self.found.rows.push(row.deviation());
                self.found.sparse.push(2 * self.n_zeros > self.at);
                (self.n_zeros, self.at) = (0, 0);
            }
        }
    }

    pub fn finish(mut self) -> Strength {
        let is_low = self.found.rows.len() < MIN_SIDE;
        let deviation = |column: &Sums| {
            if is_low {
                f32::INFINITY
            } else {
                column.deviation()
            }
        };
        self.found.columns = self.columns.iter().map(deviation).collect();
        self.found
    }
}

#[derive(Clone, Default)]
struct Sums {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, value: f32) {
        if !value.is_finite() {
            return;
        }
        let value = f64::from(value);
        self.n += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn deviation(&self) -> f32 {
        let mean = self.sum / self.n.max(1.0);
        let variance = self.squares / self.n.max(1.0) - mean * mean;
        variance.max(0.0).sqrt() as f32
    }
}
