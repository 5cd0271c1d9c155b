//! Names as numbers, so that comparing many reads each text once.

use crate::id::{GraphId, NodeId, TensorId};

/// The names of a model's values, and its operator types, as numbers. Equal names have equal
/// numbers, in all graphs.
#[derive(Debug, Default)]
pub struct Names {
    pub(crate) count: usize,
    pub(crate) tensors: Vec<Name>,
    pub(crate) inputs: Parts,
    pub(crate) outputs: Parts,
    pub(crate) graph_inputs: Parts,
    pub(crate) graph_outputs: Parts,
    pub(crate) op_types: Vec<u32>,
    pub(crate) n_op_types: usize,
}

/// The number of a name; `None` for the empty one, which stands for no value.
pub type Name = Option<u32>;

/// A list of names for each node, or for each graph.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The end of each list.
    ends: Vec<u32>,
    names: Vec<Name>,
}

impl Names {
    /// Returns the number of different names. Every number is below it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the name of a tensor.
    pub fn tensor(&self, tensor: TensorId) -> Name {
        self.tensors.get(tensor.index()).copied().flatten()
    }

    /// Returns the names of a node's inputs, by slot.
    pub fn inputs(&self, node: NodeId) -> &[Name] {
        self.inputs.get(node.index())
    }

    /// Returns the names of a node's outputs, by slot.
    pub fn outputs(&self, node: NodeId) -> &[Name] {
        self.outputs.get(node.index())
    }

    /// Returns the names of a graph's inputs, in order.
    pub fn graph_inputs(&self, graph: GraphId) -> &[Name] {
        self.graph_inputs.get(graph.index())
    }

    /// Returns the names of a graph's outputs, in order.
    pub fn graph_outputs(&self, graph: GraphId) -> &[Name] {
        self.graph_outputs.get(graph.index())
    }

    /// Returns the operator type of a node, with its domain.
    pub fn op_type(&self, node: NodeId) -> Option<u32> {
        self.op_types.get(node.index()).copied()
    }

    /// Returns the number of different operator types. Every number is below it.
    pub fn n_op_types(&self) -> usize {
        self.n_op_types
    }
}

impl Parts {
    /// Adds the list of the next node or graph.
    pub(crate) fn push(&mut self, names: impl Iterator<Item = Name>) {
        self.names.extend(names);
        self.ends.push(self.names.len() as u32);
    }

    fn get(&self, index: usize) -> &[Name] {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
            None => 0,
        };
        let end = self.ends.get(index).copied().unwrap_or_default();
        (self.names.get(start as usize..end as usize)).unwrap_or_default()
    }
}
