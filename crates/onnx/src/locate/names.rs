//! Numbers the names of a model.

use std::collections::HashMap;

use crate::model::Model;
use crate::names::{Name, Names};

/// The operator types of the nodes read so far.
#[derive(Default)]
pub(super) struct OpTypes<'a> {
    /// Domain and type as first read, and their number, by domain and type.
    first: HashMap<OpType<'a>, (OpType<'a>, u32)>,
    of_nodes: Vec<u32>,
}

type OpType<'a> = (&'a str, &'a str);

impl<'a> OpTypes<'a> {
    /// Adds a node.
    ///
    /// Returns domain and type as first read: a shared text stays in the cache, unlike equal texts
    /// beside each node.
    pub(super) fn add(&mut self, of_node: OpType<'a>) -> OpType<'a> {
        let next = self.first.len() as u32;
        let (first, number) = *self.first.entry(of_node).or_insert((of_node, next));
        self.of_nodes.push(number);
        first
    }

    /// Numbers all names of `model`, whose nodes were added before.
    pub(super) fn names(self, model: &Model<'a>) -> Names {
        // A growing map would hash all texts again and again.
        let room = model.tensors.len() + model.nodes.len();
        let mut numbers = Numbers(HashMap::with_capacity(room));
        let mut names = Names {
            n_op_types: self.first.len(),
            op_types: self.of_nodes,
            ..Names::default()
        };
        for graph in &model.graphs {
            names.graph_inputs.push(numbers.of_all(&graph.inputs));
        }
        let tensors = model.tensors.iter();
        names.tensors = tensors.map(|tensor| numbers.of(tensor.name)).collect();
        for node in &model.nodes {
            names.inputs.push(numbers.of_all(&node.inputs));
            names.outputs.push(numbers.of_all(&node.outputs));
        }
        for graph in &model.graphs {
            names.graph_outputs.push(numbers.of_all(&graph.outputs));
        }
        names.count = numbers.0.len();
        names
    }
}

/// The names so far, with their numbers.
struct Numbers<'a>(HashMap<&'a str, u32>);

impl<'a> Numbers<'a> {
    fn of_all(&mut self, names: &[&'a str]) -> impl Iterator<Item = Name> {
        names.iter().map(|name| self.of(name))
    }

    fn of(&mut self, name: &'a str) -> Name {
        let next = self.0.len() as u32;
        (!name.is_empty()).then(|| *self.0.entry(name).or_insert(next))
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
        let tensor = model.tensors_with_ids().next().unwrap().0;
        let x = names.graph_inputs.of(0)[0];
        let w = names.tensor(tensor);
        assert_eq!(names.inputs.of(0), [x, w]);
        let y = names.outputs.of(0)[0];
        assert_eq!(names.inputs.of(1), [y, None, w]);
        assert_eq!(names.outputs.of(1)[1], None);
        let all = [x, w, y, names.outputs.of(1)[0]];
        assert_eq!(names.count, 4);
        let different: std::collections::BTreeSet<_> =
            all.into_iter().map(Option::unwrap).collect();
        assert_eq!(different.len(), 4);
        assert!(different.iter().all(|&name| (name as usize) < names.count));
    }
}
