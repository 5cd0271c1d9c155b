//! Models that programs may read in different ways.

use std::collections::HashMap;

use crate::error::{Error, Fault, excerpt};
use crate::model::{GraphId, Model, Node, Tensor, TensorRole};

const PASSED_OVER_FILE: &str = "expected elements in the model file, found them, or data that may be elements, in an external file";

/// A value of a graph.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Only an input so far.
    Input,
    /// An initializer, or an output of a node.
    Other,
}

impl<'a> Model<'a> {
    /// Checks that every program finds the same elements for each value.
    ///
    /// [`locate`](crate::locate) accepts models that this check refuses, so that they can be
    /// inspected. It fails where:
    /// - Two values of one graph have one name. Among two initializers,
    ///   sparse initializers or Constant nodes, ONNX Runtime takes the first or the last, depending
    ///   on where their elements lie. An initializer may have the name of an input, as its default.
    /// - ONNX Runtime refuses an external tensor.
    /// - `training_info`, or the default of a function's attribute,
    ///   keeps elements in a file that is not among [`Model::external_files`].
    pub fn check_unambiguous(&self) -> Result<(), Error> {
        if let Some((at, fault)) = &self.stray_key {
            let (at, fault) = (at.clone(), fault.clone());
            return Err(Error::Malformed { at, fault });
        }
        if let Some(part) = self.passed_over.iter().find(|part| part.names_files) {
            let error = Error::malformed(part.field.start, PASSED_OVER_FILE);
            return Err(error.under(&part.path));
        }
        self.check_names()
    }

    fn check_names(&self) -> Result<(), Error> {
        let names = &self.names;
        let mut values = HashMap::with_capacity(names.count);
        for (graph, _) in self.graphs_with_ids() {
            for name in names.graph_inputs.of(graph.index()).iter().flatten() {
                values.insert((graph, *name), Value::Input);
            }
        }
        for (id, tensor) in self.tensors_with_ids() {
            let Some(name) = names.tensor(id).filter(|_| self.is_named(tensor)) else {
                continue;
            };
            if values.insert((tensor.graph, name), Value::Other) == Some(Value::Other) {
                let error =
                    Error::malformed(tensor.message.start, self.twice(tensor.graph, tensor.name));
                return Err(error.in_tensor(tensor.name).under(&tensor.path));
            }
        }
        for (id, node) in self.nodes_with_ids() {
            for (slot, name) in names.outputs.of(id.index()).iter().enumerate() {
                let Some(name) = *name else { continue };
                if values.insert((node.graph, name), Value::Other).is_some() {
                    let name = node.outputs.get(slot).copied().unwrap_or_default();
                    let error = Error::malformed(node.message.start, self.twice(node.graph, name));
                    return Err(error.in_node(node.name).under(&self.path_of(node)));
                }
            }
        }
        Ok(())
    }

    /// Returns whether the tensor is a value of its graph by itself, rather than part of a node.
    fn is_named(&self, tensor: &Tensor<'_>) -> bool {
        match tensor.place {
            TensorRole::Initializer => true,
            // Sparse tensors of attributes belong to a node.
            TensorRole::SparseValues => (self.graphs.get(tensor.graph.index()))
                .and_then(|graph| tensor.path.strip_prefix(&graph.path))
                .is_some_and(|path| path.starts_with(".sparse_initializer")),
            TensorRole::SparseIndices | TensorRole::Attribute { .. } => false,
        }
    }

    /// Makes the fault for a value of `graph` with another's name.
    fn twice(&self, graph: GraphId, name: &str) -> Fault {
        let mut tensors = self.tensors.iter();
        let tensor = tensors
            .find(|tensor| tensor.graph == graph && tensor.name == name && self.is_named(tensor));
        let input = || {
            let graph = self.graphs.get(graph.index())?;
            let position = graph.inputs.iter().position(|input| *input == name)?;
            Some(format!("{}.input[{position}]", graph.path))
        };
        let node = || {
            let mut nodes = self.nodes.iter();
            let node = nodes.find(|node| node.graph == graph && node.outputs.contains(&name))?;
            Some(self.path_of(node))
        };
        let first = tensor.map(|tensor| tensor.path.clone());
        let first = first.or_else(input).or_else(node);
        let (name, first) = (excerpt(name), first.unwrap_or_default());
        let found = format_args!("{name:?}, which {first} has");
        Fault::expected("a value with a name of its own", found)
    }

    fn path_of(&self, node: &Node<'_>) -> String {
        let graph = self.graphs.get(node.graph.index());
        let graph = graph.map_or("", |graph| &graph.path);
        format!("{graph}.node[{}]", node.position)
    }
}
