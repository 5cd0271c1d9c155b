//! A public model of the same architecture, whose elements stand in for encrypted ones.

use std::collections::HashMap;

use onnxseal_plan::{Policy, Preset};

use crate::engine::Files;
use crate::error::Result;
use crate::hidden::{Hidden, HiddenTensor};
use crate::subject::Subject;

/// A public model, with its tensors matched to those of the model that is assessed.
#[derive(Debug)]
pub(crate) struct Base {
    files: Files,
    /// By the path of the tensor that is assessed.
    matched: HashMap<String, HiddenTensor>,
    /// Weight tensors of the model that is assessed.
    pub(crate) n_tensors: usize,
}

impl Base {
    /// Matches the weight tensors of `base` to those of `of`: by name where shape and type agree; the others in their
    /// order, to the next one with the same operator type, shape and type.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model).
    pub(crate) fn of(of: &Hidden, base: &Subject) -> Result<Base> {
        let weights = Hidden::of_policy(base, &Policy::preset(Preset::Full))?.tensors;
        let mut left: Vec<Option<HiddenTensor>> = weights.into_iter().map(Some).collect();
        let is_like =
            |a: &HiddenTensor, b: &HiddenTensor| a.dims == b.dims && a.data_type == b.data_type;
        let mut matched = HashMap::new();
        for tensor in &of.tensors {
            let same = |b: &&mut Option<HiddenTensor>| {
                b.as_ref()
                    .is_some_and(|b| b.name == tensor.name && is_like(b, tensor))
            };
            if let Some(found) = left.iter_mut().find(same).and_then(Option::take) {
                matched.insert(tensor.path.clone(), found);
            }
        }
        for tensor in &of.tensors {
            if matched.contains_key(&tensor.path) {
                continue;
            }
            let next = |b: &&mut Option<HiddenTensor>| {
                b.as_ref().is_some_and(|b| {
                    b.op_type == tensor.op_type && b.role == tensor.role && is_like(b, tensor)
                })
            };
            if let Some(found) = left.iter_mut().find(next).and_then(Option::take) {
                matched.insert(tensor.path.clone(), found);
            }
        }
        let n_tensors = of.tensors.len();
        Ok(Base {
            files: base.files().clone(),
            matched,
            n_tensors,
        })
    }

    /// Tensors that have a match.
    pub(crate) fn n_matched(&self) -> usize {
        self.matched.len()
    }

    /// The base's elements for a tensor, one after the other.
    pub(crate) fn elements(&self, tensor: &HiddenTensor) -> Option<Vec<u8>> {
        let found = self.matched.get(&tensor.path)?;
        Some(found.gather(&self.files))
    }
}
