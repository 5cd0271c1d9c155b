//! Finds the tensors of the original in a leaked model.

use onnxseal_onnx::model::{Payload, Tensor, TensorId};
use onnxseal_rewrite::{DataType, Graph, slice, width};

use crate::error::Result;
use crate::fit::{Fitted, Placed, residual};
use crate::numbers::{floats, nibbles};
use crate::original::Original;
use crate::place;
use crate::weights::Weight;

/// The most tensors to compare with permuted or rotated, and the most elements of such a tensor.
const MAX_HARD: usize = 6;
const MAX_HARD_ELEMENTS: usize = 1 << 24;

/// The copy of a tensor in a leak, and what differs.
pub struct Found {
    /// Its name in the leak.
    pub copy: String,
    /// How its elements were put in their places.
    pub how: &'static str,
    pub fitted: Fitted,
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
    /// Where in the file it is, from 0 to 1.
    position: f64,
}

impl<'g, 'a> Leak<'g, 'a> {
    pub fn new(graph: &'g Graph<'a>) -> Leak<'g, 'a> {
        let model = graph.model();
        let n_tensors = model.tensors.len().max(1) as f64;
        let mut all = Vec::new();
        for (id, tensor) in model.tensors_with_ids() {
            let of = |n_elements, is_packed| Candidate {
                id,
                tensor,
                n_elements,
                is_packed,
                position: id.index() as f64 / n_tensors,
            };
            match tensor.data_type {
                DataType::Int4 | DataType::Uint4 => all.push(of(tensor.n_elements, true)),
                data_type if width(data_type).is_some() => {
                    all.push(of(tensor.n_elements, false));
                    // MatMulNBits has its elements of 4 bits in bytes.
                    if data_type == DataType::Uint8 {
                        all.push(of(2 * tensor.n_elements, true));
                    }
                }
                _ => {}
            }
        }
        Leak { graph, all }
    }

    /// Finds the copy of a tensor that is at this `position` of its model, from 0 to 1: the first
    /// that is like it. Those of the same name come first, then those near that position.
    pub fn find(
        &self,
        weight: &Weight<'_>,
        position: f64,
        original: &Original,
        strength: f64,
    ) -> Result<Option<Found>> {
        let n_elements = original.values.len() as u64;
        let of_size = self.all.iter().filter(|of| of.n_elements == n_elements);
        let mut candidates: Vec<&Candidate<'_>> = of_size.collect();
        let is_named = |of: &Candidate<'_>| of.tensor.name == weight.tensor.name;
        candidates.sort_by(|a, b| {
            let distance = |of: &Candidate<'_>| (of.position - position).abs();
            let nearer = distance(a).total_cmp(&distance(b));
            is_named(b).cmp(&is_named(a)).then(nearer)
        });
        let found = |of: &Candidate<'_>, how, copy: &Placed| Found {
            copy: of.tensor.name.to_owned(),
            how,
            fitted: residual(original, copy, strength),
        };
        for of in &candidates {
            let mut copy = self.load(of)?;
            if let Some(how) = place::turned(original, &mut copy) {
                return Ok(Some(found(of, how, &copy)));
            }
        }
        if original.values.len() <= MAX_HARD_ELEMENTS {
            for of in candidates.iter().take(MAX_HARD) {
                if let Some((how, copy)) = place::scattered(original, self.load(of)?) {
                    return Ok(Some(found(of, how, &copy)));
                }
            }
        }
        match candidates.first() {
            Some(of) if is_named(of) => Ok(Some(found(of, "named alike", &self.load(of)?))),
            _ => Ok(None),
        }
    }

    fn load(&self, of: &Candidate<'_>) -> Result<Placed> {
        let values = match of.is_packed {
            false => floats(of.tensor.data_type, self.graph.load(of.id)?.raw()),
            true => nibbles(&self.packed(of.tensor)?, of.tensor.data_type),
        };
        let data_type = of.tensor.data_type;
        Ok(Placed {
            values,
            is_integer: !onnxseal_rewrite::is_float(data_type),
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
