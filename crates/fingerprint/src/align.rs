//! Finds the tensors of the original in a leaked model.

use onnxseal_onnx::model::{Payload, Tensor, TensorId};
use onnxseal_rewrite::{DataType, Graph, is_float, slice, width};
use serde::Serialize;

use crate::error::Result;
use crate::fit::{Fitted, Placed, residual};
use crate::numbers::{floats, nibbles};
use crate::place;
use crate::weights::{Original, Weight};

/// The most tensors to compare with permuted or rotated, and the most elements of such a tensor.
const MAX_HARD: usize = 6;
const MAX_HARD_ELEMENTS: usize = 1 << 24;

/// A tensor of the original that was found in the leak.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    pub tensor: String,
    /// Its name in the leak.
    pub copy: String,
    pub how: &'static str,
    pub elements: u64,
    /// The z that a mark of the default strength would have in this tensor alone.
    pub expected_z: f64,
}

/// The tensors of a leaked model.
pub struct Leak<'g, 'a> {
    graph: &'g Graph<'a>,
    /// Those that may be copies, in the order of the file.
    all: Vec<Candidate<'a>>,
}

struct Candidate<'a> {
    id: TensorId,
    tensor: &'a Tensor<'a>,
    n_elements: u64,
    /// Whether each byte is two elements of 4 bits.
    is_packed: bool,
}

impl<'g, 'a> Leak<'g, 'a> {
    pub fn new(graph: &'g Graph<'a>) -> Leak<'g, 'a> {
        let mut all = Vec::new();
        for (id, tensor) in graph.model().tensors_with_ids() {
            let mut add = |n_elements, is_packed| {
                all.push(Candidate {
                    id,
                    tensor,
                    n_elements,
                    is_packed,
                });
            };
            match tensor.data_type {
                DataType::Int4 | DataType::Uint4 => add(tensor.n_elements, true),
                data_type if width(data_type).is_some() => add(tensor.n_elements, false),
                _ => {}
            }
            // MatMulNBits has its elements of 4 bits in bytes.
            if tensor.data_type == DataType::Uint8 {
                add(tensor.n_elements.saturating_mul(2), true);
            }
        }
        Leak { graph, all }
    }

    /// Finds the copy of a tensor: the first that is like it. Those of the same name come first, then
    /// those near its place in the file. Returns what differs, too.
    pub fn find(
        &self,
        weight: &Weight<'_>,
        original: &Original,
        strength: f64,
    ) -> Result<Option<(Found, Vec<f32>)>> {
        let n_elements = weight.tensor.n_elements;
        let of_size = self.all.iter().filter(|of| of.n_elements == n_elements);
        let mut candidates: Vec<&Candidate<'_>> = of_size.collect();
        let is_named = |of: &Candidate<'_>| of.tensor.name == weight.tensor.name;
        candidates.sort_by_key(|of| {
            let distance = of.id.index().abs_diff(weight.id.index());
            (!is_named(of), distance)
        });
        let found = |of: &Candidate<'_>, how, copy: &Placed| {
            let Fitted { r, quality, .. } = residual(original, copy, strength);
            let found = Found {
                tensor: weight.tensor.name.to_owned(),
                copy: of.tensor.name.to_owned(),
                how,
                elements: n_elements,
                expected_z: quality.sqrt(),
            };
            Ok(Some((found, r)))
        };
        for of in &candidates {
            let mut copy = self.load(of)?;
            if let Some(how) = place::turned(original, &mut copy) {
                return found(of, how, &copy);
            }
        }
        for of in candidates.iter().take(MAX_HARD) {
            let copy = self.load(of)?;
            if copy.values.len() <= MAX_HARD_ELEMENTS
                && let Some((how, copy)) = place::scattered(original, copy)
            {
                return found(of, how, &copy);
            }
        }
        match candidates.first() {
            Some(of) if is_named(of) => found(of, "named alike", &self.load(of)?),
            _ => Ok(None),
        }
    }

    fn load(&self, of: &Candidate<'_>) -> Result<Placed> {
        let data_type = of.tensor.data_type;
        let mut values = match of.is_packed {
            false => floats(data_type, self.graph.load(of.id)?.raw()),
            true => nibbles(&self.packed(of.tensor)?, data_type),
        };
        // Packed elements may be one more.
        values.resize(of.n_elements as usize, 0.0);
        Ok(Placed {
            values,
            is_integer: !is_float(data_type),
            n_fitted: 0.0,
        })
    }

    /// Reads the bytes of packed elements.
    fn packed(&self, tensor: &Tensor<'_>) -> Result<Vec<u8>> {
        let Payload::Dense { file, span, .. } = tensor.payload else {
            return Ok(Vec::new());
        };
        let source = &self.graph.source;
        Ok(match source.model.location(file) {
            Some(location) => (source.external)(location, span)?,
            None => slice(source.bytes, span).unwrap_or_default().to_vec(),
        })
    }
}
