//! Models that programs may read in different ways.

use std::collections::HashMap;

use crate::error::{Error, Fault, excerpt};
use crate::model::{GraphId, Model, Node, Tensor, TensorRole};

impl<'a> Model<'a> {
    /// Checks that every program finds the same elements for each value.
    ///
    /// [`locate`](crate::locate) accepts models that this refuses, so that they can be inspected.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`]:
    /// - [`Fault::NameTwice`]: two values of one graph have one name. Of two initializers, sparse
    ///   initializers or Constant nodes ONNX Runtime takes the first or the last, as it depends on
    ///   where their elements lie. An initializer may have the name of an input: it is its default.
    /// - [`Fault::ExternalKey`]: an external tensor that ONNX Runtime refuses; or one of which it takes
    ///   other elements, packed ones (`prepacked...`).
    /// - [`Fault::PassedOverFile`]: `training_info`, or the default of a function's attribute, keeps
    ///   elements in a file that is not among [`Model::external_files`].
    pub fn check_unambiguous(&self) -> Result<(), Error> {
        if let Some((at, fault)) = &self.stray_key {
            let (at, fault) = (at.clone(), fault.clone());
            return Err(Error::Malformed { at, fault });
        }
        if let Some(part) = self.passed_over.iter().find(|part| part.names_files) {
            let error = Error::malformed(part.field.start, Fault::PassedOverFile);
            return Err(error.under(&part.path));
        }
        self.check_names()
    }

    fn check_names(&self) -> Result<(), Error> {
        // Whether a value has the name that is more than an input.
        let mut names = HashMap::with_capacity(self.tensors.len() + self.nodes.len());
        for (id, graph) in (0..).map(GraphId).zip(&self.graphs) {
            names.extend(graph.inputs.iter().map(|name| ((id, *name), false)));
        }
        for tensor in self.tensors.iter().filter(|tensor| self.is_named(tensor)) {
            let before = names.insert((tensor.graph, tensor.name), true);
            if before == Some(true) && !tensor.name.is_empty() {
                let error = Error::malformed(tensor.offset, self.twice(tensor.graph, tensor.name));
                return Err(error.in_tensor(tensor.name).under(&tensor.path));
            }
        }
        for node in &self.nodes {
            for name in &node.outputs {
                let before = names.insert((node.graph, *name), true);
                if before.is_some() && !name.is_empty() {
                    let error = Error::malformed(node.offset, self.twice(node.graph, name));
                    return Err(error.in_node(node.name).under(&self.path_of(node)));
                }
            }
        }
        Ok(())
    }

    /// Whether the tensor is a value of its graph by itself, and not what a node holds.
    fn is_named(&self, tensor: &Tensor<'_>) -> bool {
        match tensor.place {
            TensorRole::Initializer => true,
            // Those of attributes are in a node.
            TensorRole::SparseValues => (self.graphs.get(tensor.graph.index()))
                .and_then(|graph| tensor.path.strip_prefix(&graph.path))
                .is_some_and(|path| path.starts_with(".sparse_initializer")),
            TensorRole::SparseIndices | TensorRole::Attribute { .. } => false,
        }
    }

    /// The fault that a value of `graph` has the name of another.
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
        Fault::NameTwice {
            name: excerpt(name),
            first: first.unwrap_or_default(),
        }
    }

    fn path_of(&self, node: &Node<'_>) -> String {
        let graph = self.graphs.get(node.graph.index());
        let graph = graph.map_or("", |graph| &graph.path);
        format!("{graph}.node[{}]", node.position)
    }
}
