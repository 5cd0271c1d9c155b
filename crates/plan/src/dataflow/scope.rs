//! Resolves names to values.
//!
//! Names of a graph are visible in the subgraphs of its nodes, unless a subgraph's own names hide
//! them. Function bodies see only their own names.

use onnxseal_onnx::Name;
use onnxseal_onnx::model::{GraphId, GraphOwner, Model, NodeId, TensorId, TensorRole};

use crate::lists::Lists;

/// A value; `None` for a name that is empty or undefined.
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
    pub n_values: usize,
    pub uses: Lists<Use>,
    /// The outputs of each node, by slot.
    pub outputs: Lists<Value>,
    /// The inputs of each graph, by position.
    pub parameters: Lists<Value>,
    /// The value of each tensor; `None` for an attribute of an operator.
    pub tensors: Vec<Value>,
}

impl Scopes {
    /// Resolves every name, in time linear in their number however deep graphs nest.
    pub fn new(model: &Model<'_>) -> Scopes {
        let contents = Contents::new(model);
        let names = &model.names;
        let mut resolver = Resolver::new(names.count);
        let mut outputs = Vec::with_capacity(model.nodes.len());
        let mut parameters = Vec::new();
        let mut tensors = vec![None; model.tensors.len()];
        let roots = contents.roots.iter().rev();
        let mut steps: Vec<Step> = roots.map(|&graph| Step::In(graph)).collect();
        while let Some(step) = steps.pop() {
            let id = match step {
                // After the last graph, nothing is left to resolve.
                Step::Out { .. } if steps.is_empty() => break,
                Step::Out { mark } => {
                    resolver.leave(mark);
                    continue;
                }
                Step::In(graph) => graph,
            };
            let graph = id.index() as u32;
            let mark = resolver.hidden.len();
            let inputs = names.graph_inputs.of(id.index()).iter();
            parameters.extend(inputs.map(|name| (graph, resolver.define(graph, *name))));
            for &tensor in contents.tensors.of(graph) {
                tensors[tensor.index()] = resolver.define(graph, value_name(model, tensor));
            }
            let nodes = contents.nodes.of(graph);
            for &node in nodes {
                let made = names.outputs.of(node.index()).iter();
                let node = node.index() as u32;
                outputs.extend(made.map(|name| (node, resolver.define(graph, *name))));
            }
            for &node in nodes {
                for (slot, name) in (0..).zip(names.inputs.of(node.index())) {
                    let node = node.index() as u32;
                    resolver.note(*name, Use::Input { node, slot });
                }
            }
            for (position, name) in (0..).zip(names.graph_outputs.of(id.index())) {
                resolver.note(*name, Use::Output { graph, position });
            }
            steps.push(Step::Out { mark });
            let subgraphs = contents.subgraphs.of(graph).iter().rev();
            steps.extend(subgraphs.map(|&graph| Step::In(graph)));
        }
        Scopes {
            n_values: resolver.graphs.len(),
            uses: Lists::new(resolver.graphs.len(), &resolver.uses),
            outputs: Lists::new(model.nodes.len(), &outputs),
            parameters: Lists::new(model.graphs.len(), &parameters),
            tensors,
        }
    }
}

/// Returns the name under which nodes read a tensor.
fn value_name(model: &Model<'_>, id: TensorId) -> Name {
    let tensor = model.tensors.get(id.index())?;
    match tensor.place {
        TensorRole::Initializer | TensorRole::SparseValues => model.names.tensor(id),
        TensorRole::SparseIndices => None,
        TensorRole::Attribute { node, .. } => {
            let of = model.nodes.get(node.index())?;
            match (of.domain, of.op_type) {
                ("", "Constant") => *model.names.outputs.of(node.index()).first()?,
                _ => None,
            }
        }
    }
}

/// The nodes, tensors and names of each graph.
struct Contents {
    /// The main graph and the functions' bodies.
    roots: Vec<GraphId>,
    subgraphs: Lists<GraphId>,
    nodes: Lists<NodeId>,
    tensors: Lists<TensorId>,
}

impl Contents {
    fn new(model: &Model<'_>) -> Contents {
        let n_graphs = model.graphs.len();
        let mut roots = Vec::new();
        let mut subgraphs = Vec::new();
        for (id, graph) in model.graphs_with_ids() {
            match graph.owner {
                GraphOwner::Model | GraphOwner::Function(_) => roots.push(id),
                GraphOwner::Node { node, .. } => {
                    let parent = model.nodes.get(node.index()).map(|node| node.graph);
                    subgraphs.extend(parent.map(|parent| (parent.index() as u32, id)));
                }
            }
        }
        let of_graph = |graph: GraphId| graph.index() as u32;
        let nodes = model.nodes_with_ids();
        let nodes: Vec<_> = nodes.map(|(id, node)| (of_graph(node.graph), id)).collect();
        let tensors = model.tensors_with_ids();
        let tensors: Vec<_> = tensors
            .map(|(id, tensor)| (of_graph(tensor.graph), id))
            .collect();
        Contents {
            roots,
            subgraphs: Lists::new(n_graphs, &subgraphs),
            nodes: Lists::new(n_graphs, &nodes),
            tensors: Lists::new(n_graphs, &tensors),
        }
    }
}

/// A step of the walk over graphs.
enum Step {
    In(GraphId),
    /// Leaves a graph: names defined since `mark` get their earlier meaning back.
    Out {
        mark: usize,
    },
}

/// The names visible at one point of the walk.
struct Resolver {
    /// The value that each name stands for.
    visible: Vec<Value>,
    /// The earlier meaning of each name defined so far.
    hidden: Vec<(u32, Value)>,
    /// The graph that defines each value.
    graphs: Vec<u32>,
    uses: Vec<(u32, Use)>,
}

impl Resolver {
    fn new(n_names: usize) -> Resolver {
        Resolver {
            visible: vec![None; n_names],
            hidden: Vec::with_capacity(n_names),
            graphs: Vec::with_capacity(n_names),
            uses: Vec::with_capacity(n_names),
        }
    }

    /// Returns the value of `name` in `graph`, the graph being entered.
    fn define(&mut self, graph: u32, name: Name) -> Value {
        let name = name?;
        let place = self.visible.get_mut(name as usize)?;
        let before = *place;
        if let Some(value) = before.filter(|&value| self.graphs.get(value as usize) == Some(&graph))
        {
            return Some(value);
        }
        let value = self.graphs.len() as u32;
        self.graphs.push(graph);
        *place = Some(value);
        self.hidden.push((name, before));
        Some(value)
    }

    fn note(&mut self, name: Name, place: Use) {
        let value = name.and_then(|name| self.visible.get(name as usize).copied().flatten());
        self.uses.extend(value.map(|value| (value, place)));
    }

    /// Undoes the definitions since `mark`, in time linear in their number.
    fn leave(&mut self, mark: usize) {
        for (name, before) in self.hidden.drain(mark..).rev() {
            self.visible[name as usize] = before;
        }
    }
}
