//! What holds for all operators of a type, found out once for each type.

use std::cell::OnceCell;

use onnxseal_onnx::model::{Model, NodeId};

/// A value for each operator type of a model, made when it is first asked for.
#[derive(Debug)]
pub struct OfOpTypes<'m, 'a, T> {
    model: &'m Model<'a>,
    values: Vec<OnceCell<T>>,
}

impl<'m, 'a, T> OfOpTypes<'m, 'a, T> {
    /// No value yet for the operator types of `model`.
    pub fn new(model: &'m Model<'a>) -> Self {
        let n = model.names.n_op_types();
        OfOpTypes {
            model,
            values: (0..n).map(|_| OnceCell::new()).collect(),
        }
    }

    /// The value for the type of `node`, which `make` makes of domain and type; `None` for a node of
    /// another model.
    pub fn get(&self, node: NodeId, make: impl FnOnce(&'a str, &'a str) -> T) -> Option<&T> {
        let of = self.model.nodes.get(node.index())?;
        let number = self.model.names.op_type(node)?;
        let value = self.values.get(number as usize)?;
        Some(value.get_or_init(|| make(of.domain, of.op_type)))
    }
}
