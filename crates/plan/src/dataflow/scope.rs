//! Which value a name stands for.
//!
//! Names of a graph are visible in the subgraphs of its nodes, where a graph's own names hide them.
//! Function bodies see nothing but their own.

use std::collections::HashMap;

use onnxseal_onnx::model::{GraphOwner, Model, Tensor, TensorRole};

use super::lists::Lists;

/// A value, or none where a name is empty or stands for nothing.
pub(super) type Value = Option<u32>;

/// One place where a value is used.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// Input `slot` of a node.
    Input { node: u32, slot: u32 },
    /// Output `position` of a graph.
    Output { graph: u32, position: u32 },
}

/// Every name of a model resolved.
pub(super) struct Scopes {
    /// Number of values.
    pub n_values: usize,
    /// By value.
    pub uses: Lists<Use>,
    /// The outputs of each node, by slot.
    pub outputs: Lists<Value>,
    /// The inputs of each graph, by position.
    pub parameters: Lists<Value>,
    /// The value that each tensor is; none for an attribute of an operator.
    pub tensors: Vec<Value>,
}

impl Scopes {
    /// Resolves every name, in time linear in their number however deep graphs nest.
    pub fn new(model: &Model<'_>) -> Scopes {
        let contents = Contents::new(model);
        let mut resolver = Resolver::default();
        resolver
            .visible
            .reserve(model.tensors.len() + model.nodes.len());
        let mut outputs = Vec::new();
        let mut parameters = Vec::new();
        let mut tensors = vec![None; model.tensors.len()];
        let mut steps: Vec<Step> = contents
            .roots
            .iter()
            .rev()
            .map(|&graph| Step::In(graph))
            .collect();
        while let Some(step) = steps.pop() {
            let graph = match step {
                // Nothing is resolved after the last graph.
                Step::Out { .. } if steps.is_empty() => break,
                Step::Out { mark } => {
                    resolver.leave(mark);
                    continue;
                }
                Step::In(graph) => graph,
            };
            let mark = resolver.hidden.len();
            let Some(names) = model.graphs.get(graph as usize) else {
                continue;
            };
            parameters.extend(
                names
                    .inputs
                    .iter()
                    .map(|name| (graph, resolver.define(graph, name))),
            );
            for &index in contents.tensors.of(graph) {
                if let Some(tensor) = model.tensors.get(index as usize) {
                    let name = value_name(model, tensor);
                    tensors[index as usize] = name.and_then(|name| resolver.define(graph, name));
                }
            }
            let nodes = contents.nodes.of(graph);
            for (index, node) in nodes
                .iter()
                .filter_map(|&i| Some((i, model.nodes.get(i as usize)?)))
            {
                outputs.extend(
                    node.outputs
                        .iter()
                        .map(|name| (index, resolver.define(graph, name))),
                );
            }
            for (node, names) in nodes
                .iter()
                .filter_map(|&i| Some((i, model.nodes.get(i as usize)?)))
            {
                for (slot, name) in (0..).zip(&names.inputs) {
                    resolver.note(name, Use::Input { node, slot });
                }
            }
            for (position, name) in (0..).zip(&names.outputs) {
                resolver.note(name, Use::Output { graph, position });
            }
            steps.push(Step::Out { mark });
            steps.extend(
                contents
                    .subgraphs
                    .of(graph)
                    .iter()
                    .rev()
                    .map(|&graph| Step::In(graph)),
            );
        }
        Scopes {
            n_values: resolver.graphs.len(),
            uses: Lists::new(resolver.graphs.len(), resolver.uses),
            outputs: Lists::new(model.nodes.len(), outputs),
            parameters: Lists::new(model.graphs.len(), parameters),
            tensors,
        }
    }
}

/// The name under which nodes read a tensor.
fn value_name<'a>(model: &Model<'a>, tensor: &Tensor<'a>) -> Option<&'a str> {
    match tensor.place {
        TensorRole::Initializer | TensorRole::SparseValues => Some(tensor.name),
        TensorRole::SparseIndices => None,
        TensorRole::Attribute { node, .. } => {
            let node = model.nodes.get(node.index())?;
            match (node.domain, node.op_type) {
                ("", "Constant") => node.outputs.first().copied(),
                _ => None,
            }
        }
    }
}

/// What stands in each graph.
struct Contents {
    /// The main graph and the functions' bodies.
    roots: Vec<u32>,
    subgraphs: Lists<u32>,
    nodes: Lists<u32>,
    tensors: Lists<u32>,
}

impl Contents {
    fn new(model: &Model<'_>) -> Contents {
        let n_graphs = model.graphs.len();
        let mut roots = Vec::new();
        let mut subgraphs = Vec::new();
        for (graph, names) in (0..).zip(&model.graphs) {
            match names.owner {
                GraphOwner::Model | GraphOwner::Function(_) => roots.push(graph),
                GraphOwner::Node { node, .. } => {
                    let parent = model.nodes.get(node.index()).map(|node| node.graph);
                    subgraphs.extend(parent.map(|parent| (parent.index() as u32, graph)));
                }
            }
        }
        let nodes = (0..)
            .zip(&model.nodes)
            .map(|(i, node)| (node.graph.index() as u32, i));
        let tensors = (0..)
            .zip(&model.tensors)
            .map(|(i, tensor)| (tensor.graph.index() as u32, i));
        Contents {
            roots,
            subgraphs: Lists::new(n_graphs, subgraphs),
            nodes: Lists::new(n_graphs, nodes.collect()),
            tensors: Lists::new(n_graphs, tensors.collect()),
        }
    }
}

/// A step of the walk over graphs.
enum Step {
    /// Enters a graph.
    In(u32),
    /// Leaves one; names defined since `mark` mean again what they meant before.
    Out { mark: usize },
}

/// The names visible at one point of the walk.
#[derive(Default)]
struct Resolver<'a> {
    visible: HashMap<&'a str, u32>,
    /// What each name defined since the start meant before.
    hidden: Vec<(&'a str, Value)>,
    /// The graph that defines each value.
    graphs: Vec<u32>,
    uses: Vec<(u32, Use)>,
}

impl<'a> Resolver<'a> {
    /// The value that `name` is in `graph`, the graph being entered.
    fn define(&mut self, graph: u32, name: &'a str) -> Value {
        if name.is_empty() {
            return None;
        }
        let before = self.visible.get(name).copied();
        if let Some(value) = before.filter(|&value| self.graphs.get(value as usize) == Some(&graph))
        {
            return Some(value);
        }
        let value = self.graphs.len() as u32;
        self.graphs.push(graph);
        self.visible.insert(name, value);
        self.hidden.push((name, before));
        Some(value)
    }

    fn note(&mut self, name: &str, place: Use) {
        self.uses
            .extend(self.visible.get(name).map(|&value| (value, place)));
    }

    /// Takes back what was defined since `mark`, in time linear in that.
    fn leave(&mut self, mark: usize) {
        // Name by name for roots too: to clear a map takes as long as it is large, not as it is full.
        for (name, before) in self.hidden.drain(mark..).rev() {
            match before {
                Some(value) => self.visible.insert(name, value),
                None => self.visible.remove(name),
            };
        }
    }
}
