//! Names as numbers: whoever compares many of them looks at each text once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::model::{GraphId, Model, NodeId, TensorId};

/// The names of a model's values as numbers, and its operator types: what is equal has equal numbers, in
/// all graphs.
#[derive(Debug, Default)]
pub struct Names {
    count: usize,
    tensors: Vec<Name>,
    inputs: Parts,
    outputs: Parts,
    graph_inputs: Parts,
    graph_outputs: Parts,
    op_types: Vec<u32>,
    n_op_types: usize,
}

/// The number of a name; none of the empty one, which stands for no value.
pub type Name = Option<u32>;

/// A list of names for each node, or for each graph.
#[derive(Debug, Default)]
struct Parts {
    /// Where each list ends.
    ends: Vec<u32>,
    names: Vec<Name>,
}

impl Names {
    /// How many different names there are. Every number is below it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The name of a tensor.
    pub fn tensor(&self, tensor: TensorId) -> Name {
        self.tensors.get(tensor.index()).copied().flatten()
    }

    /// The names of a node's inputs, by slot.
    pub fn inputs(&self, node: NodeId) -> &[Name] {
        self.inputs.get(node.index())
    }

    /// The names of a node's outputs, by slot.
    pub fn outputs(&self, node: NodeId) -> &[Name] {
        self.outputs.get(node.index())
    }

    /// The names of a graph's inputs, in order.
    pub fn graph_inputs(&self, graph: GraphId) -> &[Name] {
        self.graph_inputs.get(graph.index())
    }

    /// The names of a graph's outputs, in order.
    pub fn graph_outputs(&self, graph: GraphId) -> &[Name] {
        self.graph_outputs.get(graph.index())
    }

    /// The operator type of a node, with its domain.
    pub fn op_type(&self, node: NodeId) -> Option<u32> {
        self.op_types.get(node.index()).copied()
    }

    /// How many different operator types there are. Every number is below it.
    pub fn n_op_types(&self) -> usize {
        self.n_op_types
    }
}

/// The operator types of the nodes that were read so far.
#[derive(Default)]
pub(crate) struct OpTypes<'a> {
    first: HashMap<(&'a str, &'a str), OpType<'a>>,
    of_nodes: Vec<u32>,
}

/// An operator type, with its first texts.
#[derive(Clone, Copy)]
struct OpType<'a> {
    domain: &'a str,
    op_type: &'a str,
    number: u32,
}

impl<'a> OpTypes<'a> {
    /// Adds a node.
    ///
    /// Returns domain and type where they were found first: a text that many nodes share is at hand, and
    /// the same text beside each node is not.
    pub(crate) fn add(&mut self, domain: &'a str, op_type: &'a str) -> (&'a str, &'a str) {
        let number = self.first.len() as u32;
        let first = self.first.entry((domain, op_type)).or_insert(OpType {
            domain,
            op_type,
            number,
        });
        self.of_nodes.push(first.number);
        (first.domain, first.op_type)
    }

    /// The numbers of all names of `model`, whose nodes were added.
    pub(crate) fn names(self, model: &Model<'a>) -> Names {
        // In a map that grows, all texts are hashed again and again.
        let room = model.tensors.len() + model.nodes.len();
        let mut numbers = Numbers {
            texts: Vec::with_capacity(room),
            table: HashTable::with_capacity(room),
            hasher: RandomState::new(),
        };
        let mut names = Names {
            n_op_types: self.first.len(),
            op_types: self.of_nodes,
            ..Names::default()
        };
        for graph in &model.graphs {
            names.graph_inputs.push(&graph.inputs, &mut numbers);
        }
        let tensors = model.tensors.iter();
        names.tensors = tensors.map(|tensor| numbers.of(tensor.name)).collect();
        for node in &model.nodes {
            names.inputs.push(&node.inputs, &mut numbers);
            names.outputs.push(&node.outputs, &mut numbers);
        }
        for graph in &model.graphs {
            names.graph_outputs.push(&graph.outputs, &mut numbers);
        }
        names.count = numbers.texts.len();
        names
    }
}

/// The names so far.
struct Numbers<'a> {
    /// By number.
    texts: Vec<&'a str>,
    /// The numbers by hash of their texts. Nothing else is in it, so that it fits the cache.
    table: HashTable<u32>,
    hasher: RandomState,
}

impl<'a> Numbers<'a> {
    fn of(&mut self, name: &'a str) -> Name {
        if name.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(name);
        let texts = &self.texts;
        let text = |number: &u32| texts.get(*number as usize).copied();
        let is_name = |number: &u32| text(number) == Some(name);
        let hash_of = |number: &u32| self.hasher.hash_one(text(number).unwrap_or_default());
        let entry = self.table.entry(hash, is_name, hash_of);
        Some(match entry {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let number = texts.len() as u32;
                new.insert(number);
                self.texts.push(name);
                number
            }
        })
    }
}

impl Parts {
    fn push<'a>(&mut self, names: &[&'a str], numbers: &mut Numbers<'a>) {
        self.names.extend(names.iter().map(|name| numbers.of(name)));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use crate::{Limits, locate};

    #[test]
    fn equal_names_have_equal_numbers_and_empty_ones_none() {
        let bytes = GraphBuilder::new("g")
            .input("x", &[1, 2])
            .initializer(weights("w", &[2, 2], 1))
            .node(node("MatMul", &["x", "w"], &["y"]))
            .node(node("Dropout", &["y", "", "w"], &["z", ""]))
            .encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let names = &model.names;
        let [first, second] = [0, 1].map(|at| model.nodes_with_ids().nth(at).unwrap().0);
        let tensor = model.tensors_with_ids().next().unwrap().0;
        let x = names.graph_inputs(model.main())[0];
        let w = names.tensor(tensor);
        assert_eq!(names.inputs(first), [x, w]);
        let y = names.outputs(first)[0];
        assert_eq!(names.inputs(second), [y, None, w]);
        assert_eq!(names.outputs(second)[1], None);
        let all = [x, w, y, names.outputs(second)[0]];
        assert_eq!(names.count(), 4);
        let different: std::collections::BTreeSet<_> =
            all.into_iter().map(Option::unwrap).collect();
        assert_eq!(different.len(), 4);
        assert!(
            different
                .iter()
                .all(|&name| (name as usize) < names.count())
        );
    }
}
