//! Names as numbers, so that comparing many reads each text once.

use crate::id::{NodeId, TensorId};

/// The names of a model's values, and its operator types, as numbers. Equal names have equal
/// numbers, in all graphs.
#[derive(Debug, Default)]
pub struct Names {
    /// How many different names there are. Every number is below it.
    pub count: usize,
    pub(crate) tensors: Vec<Name>,
    /// The inputs and outputs of each node, by slot.
    pub inputs: Lists,
    pub outputs: Lists,
    pub graph_inputs: Lists,
    pub graph_outputs: Lists,
    pub(crate) op_types: Vec<u32>,
    /// How many different operator types there are.
    pub n_op_types: usize,
}

/// The number of a name; `None` for the empty one, which stands for no value.
pub type Name = Option<u32>;

/// A list of names for each node, or for each graph.
#[derive(Debug, Default)]
pub struct Lists {
    /// The end of each list.
    ends: Vec<u32>,
    names: Vec<Name>,
}

impl Names {
    pub fn tensor(&self, tensor: TensorId) -> Name {
        self.tensors.get(tensor.index()).copied().flatten()
    }

    /// Returns the number of a node's operator type, with its domain.
    pub fn op_type(&self, node: NodeId) -> Option<u32> {
        self.op_types.get(node.index()).copied()
    }
}

impl Lists {
    pub(crate) fn push(&mut self, names: impl Iterator<Item = Name>) {
        self.names.extend(names);
        self.ends.push(self.names.len() as u32);
    }

    /// Returns the list of the node or graph with this index.
    pub fn of(&self, index: usize) -> &[Name] {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
            None => 0,
        };
        let end = self.ends.get(index).copied().unwrap_or_default();
        (self.names.get(start as usize..end as usize)).unwrap_or_default()
    }
}
