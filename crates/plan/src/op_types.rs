//! Caches a value for each operator type.

use std::cell::OnceCell;

use onnxseal_onnx::model::{Model, NodeId};

/// A value for each operator type of a model, computed on first use.
#[derive(Debug)]
pub struct OfOpTypes<'m, 'a, T> {
    model: &'m Model<'a>,
    values: Vec<OnceCell<T>>,
}

impl<'m, 'a, T> OfOpTypes<'m, 'a, T> {
    /// Makes an empty cache for the operator types of `model`.
    pub fn new(model: &'m Model<'a>) -> Self {
        let n = model.names.n_op_types;
        OfOpTypes {
            model,
            values: (0..n).map(|_| OnceCell::new()).collect(),
        }
    }

    /// Returns the value for the type of `node`, computed by `make` from domain and type, or `None`
    /// for a node of another model.
    pub fn get(&self, node: NodeId, make: impl FnOnce(&'a str, &'a str) -> T) -> Option<&T> {
        let of = self.model.nodes.get(node.index())?;
        let number = self.model.names.op_type(node)?;
        let value = self.values.get(number as usize)?;
        Some(value.get_or_init(|| make(of.domain, of.op_type)))
    }
}
