//! A public model of the same architecture, whose elements stand in for encrypted ones.

use std::collections::HashMap;

use onnxseal_engine::Files;

use crate::attack::normal::Layer;
use crate::error::{Error, Result};
use crate::everything::Everything;
use crate::hidden::{Hidden, HiddenTensor};
use crate::subject::Subject;
use crate::weights::{Numbers, decode, encode, numbers};

/// A public model, with its tensors matched to those of the assessed model.
#[derive(Debug)]
pub(crate) struct Base {
    files: Files,
    /// The base's tensors, by the path of the assessed tensor.
    matched: HashMap<String, HiddenTensor>,
    /// The number of weight tensors of the assessed model.
    pub(crate) n_tensors: usize,
    /// Whether its weights equal those of the assessed model.
    pub(crate) is_same: bool,
    /// Convolutions of the assessed model, with the statistics of their outputs in the base.
    pub(crate) convolutions: Vec<Layer>,
}

impl Base {
    /// Matches the weight tensors of `base` to those of `of`: by name if shape and type agree; the
    /// others in order, to the next one of equal operator type and shape. All types of floats count
    /// as one.
    pub(crate) fn of(of: &Hidden, base: &Subject) -> Result<Base> {
        let Everything { files, hidden, .. } = Everything::of(base, false)?;
        let mut left = hidden.tensors;
        let is_float = |tensor: &HiddenTensor| numbers(tensor.data_type) == Some(Numbers::Float);
        let is_like = |a: &HiddenTensor, b: &HiddenTensor| {
            a.dims == b.dims && (a.data_type == b.data_type || (is_float(a) && is_float(b)))
        };
        let mut matched = HashMap::new();
        for by_name in [true, false] {
            for tensor in &of.tensors {
                let suits = |b: &HiddenTensor| {
                    let is_it = if by_name {
                        b.name == tensor.name
                    } else {
                        b.op_type == tensor.op_type && b.role == tensor.role
                    };
                    is_it && is_like(tensor, b)
                };
                if matched.contains_key(&tensor.path) {
                    continue;
                }
                if let Some(at) = left.iter().position(suits) {
                    matched.insert(tensor.path.clone(), left.remove(at));
                }
            }
        }
        let has_match = |tensor: &&HiddenTensor| matched.contains_key(&tensor.path);
        let n_bytes = of.tensors.iter().filter(has_match).map(HiddenTensor::bytes);
        if n_bytes.sum::<u64>() * 2 < of.encrypted_bytes() {
            return Err(Error::Usage(format!(
                "{} is not a public base of this model: it has {} of {} weight tensors, with less than half of the bytes",
                base.name,
                of.tensors.len(),
                matched.len()
            )));
        }
        Ok(Base {
            files,
            matched,
            n_tensors: of.tensors.len(),
            is_same: false,
            convolutions: Vec::new(),
        })
    }

    /// Returns the number of tensors with a match.
    pub(crate) fn n_matched(&self) -> usize {
        self.matched.len()
    }

    /// Returns the base's elements for a tensor, contiguous.
    pub(crate) fn elements(&self, tensor: &HiddenTensor) -> Option<Vec<u8>> {
        let found = self.matched.get(&tensor.path)?;
        let theirs = found.gather(&self.files);
        if found.data_type == tensor.data_type {
            return Some(theirs);
        }
        let values = decode(found.data_type, &theirs, found.n_elements)?;
        let mut elements = vec![0; tensor.bytes() as usize];
        encode(tensor.data_type, &values, 0..values.len(), &mut elements);
        Some(elements)
    }
}
