//! The main graph by names: which nodes make and read a value, and which values are constant.

use std::collections::{HashMap, HashSet};

use onnxseal_onnx::Model;
use onnxseal_onnx::detail::{self, Attribute, Setting, raw_elements};
use onnxseal_onnx::model::{GraphOwner, Node, NodeId, Payload, Span, Tensor, TensorId, TensorRole};

use crate::elements::{Elements, width};
use crate::error::Result;
use crate::refusal::Refusal;

/// The most elements of a constant that is read as numbers.
const MAX_SMALL: u64 = 1 << 16;
/// The most nodes through which a constant passes.
const MAX_CHAIN: usize = 16;

/// A model file, and the way to read its external data.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub bytes: &'a [u8],
    pub model: &'a Model<'a>,
    /// Reads bytes of the external data file with this normalised location.
    pub external: &'a (dyn Fn(&str, Span) -> Result<Vec<u8>> + Sync),
}

/// The main graph by names.
pub struct Graph<'a> {
    pub source: Source<'a>,
    readers: HashMap<&'a str, Vec<NodeId>>,
    producers: HashMap<&'a str, NodeId>,
    constants: HashMap<&'a str, TensorId>,
    outputs: HashSet<&'a str>,
    /// For each graph, whether it is inside a function.
    in_function: Vec<bool>,
}

/// A constant of few elements.
pub struct Small {
    pub dims: Vec<u64>,
    pub values: Vec<f64>,
}

/// The attributes of a node.
pub struct Attributes<'a>(Vec<Attribute<'a>>);

impl<'a> Graph<'a> {
    pub fn new(source: Source<'a>) -> Graph<'a> {
        let model = source.model;
        let (main, in_function) = (model.main(), in_functions(model));
        let mut readers: HashMap<&str, Vec<NodeId>> = HashMap::new();
        let mut producers = HashMap::new();
        for (id, node) in model.nodes_with_ids() {
            if in_function.get(node.graph.index()) == Some(&true) {
                continue;
            }
            // Nodes of inner graphs may read outer values. Counting an inner value of the same name
            // does no harm.
            for name in node.inputs.iter().filter(|name| !name.is_empty()) {
                readers.entry(name).or_default().push(id);
            }
            if node.graph == main {
                producers.extend(node.outputs.iter().map(|name| (*name, id)));
            }
        }
        let is_constant = |tensor: &Tensor<'_>| match tensor.place {
            TensorRole::Initializer => true,
            TensorRole::Attribute { node, attribute } => {
                let node = model.nodes.get(node.index());
                matches!(attribute, "value" | "value_floats")
                    && node.is_some_and(|node| node.op_type == "Constant" && node.domain.is_empty())
            }
            _ => false,
        };
        let constants = model.tensors_with_ids();
        let constants = constants.filter(|(_, of)| of.graph == main && is_constant(of));
        // Outputs of inner graphs are read from outside.
        let graphs = model.graphs.iter().zip(&in_function);
        let graphs = graphs.filter(|(_, in_function)| !**in_function);
        let outputs = graphs.flat_map(|(graph, _)| &graph.outputs);
        Graph {
            source,
            readers,
            producers,
            constants: constants.map(|(id, of)| (of.name, id)).collect(),
            outputs: outputs.copied().collect(),
            in_function,
        }
    }

    /// Returns whether a node is in a function, where names of the graph are invisible.
    pub fn is_in_function(&self, node: &Node<'_>) -> bool {
        self.in_function.get(node.graph.index()) == Some(&true)
    }

    pub fn model(&self) -> &'a Model<'a> {
        self.source.model
    }

    pub fn node(&self, id: NodeId) -> Result<&'a Node<'a>> {
        let node = self.model().nodes.get(id.index());
        node.ok_or_else(|| Refusal::new("a node is missing").into())
    }

    pub fn tensor(&self, id: TensorId) -> Result<&'a Tensor<'a>> {
        let tensor = self.model().tensors.get(id.index());
        tensor.ok_or_else(|| Refusal::new("a tensor is missing").into())
    }

    /// Returns the nodes of all graphs that read a value; a node that reads it twice counts twice.
    pub fn readers(&self, name: &str) -> &[NodeId] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns whether a value is an output of a graph.
    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// Returns the only node that reads a value.
    pub fn only_reader(&self, name: &str) -> Option<NodeId> {
        match self.readers(name) {
            [reader] if !self.is_output(name) => Some(*reader),
            _ => None,
        }
    }

    pub fn producer(&self, name: &str) -> Option<(NodeId, &'a Node<'a>)> {
        let id = *self.producers.get(name)?;
        Some((id, self.model().nodes.get(id.index())?))
    }

    pub fn constant(&self, name: &str) -> Option<TensorId> {
        self.constants.get(name).copied()
    }

    /// Returns a name that no value of any graph has: this one, or this one with a number appended.
    pub fn free_name(&self, name: &str) -> String {
        let model = self.model();
        let nodes = model
            .nodes
            .iter()
            .flat_map(|node| node.inputs.iter().chain(&node.outputs));
        let inputs = model.graphs.iter().flat_map(|graph| &graph.inputs);
        let tensors = model.tensors.iter().map(|tensor| &tensor.name);
        let taken: HashSet<&str> = nodes.chain(inputs).chain(tensors).copied().collect();
        let more = (2..).map(|n| format!("{name}_{n}"));
        let mut names = std::iter::once(name.to_owned()).chain(more);
        names
            .find(|name| !taken.contains(name.as_str()))
            .unwrap_or_default()
    }

    pub fn attributes(&self, node: &Node<'_>) -> Result<Attributes<'a>> {
        Ok(Attributes(detail::attributes(self.source.bytes, node)?))
    }

    pub fn load(&self, id: TensorId) -> Result<Elements> {
        let tensor = self.tensor(id)?;
        let refused = |reason: &str| {
            let name = onnxseal_onnx::excerpt(tensor.name);
            Refusal::new(format!("the elements of tensor {name:?} {reason}"))
        };
        let data_type = tensor.data_type;
        let Some(width) = width(data_type) else {
            return Err(refused(&format!("are of type {}", data_type.as_str_name())).into());
        };
        let bytes = self.source.bytes;
        let raw = match &tensor.payload {
            Payload::Empty => Vec::new(),
            Payload::Dense { file, span, .. } => match self.model().location(*file) {
                Some(location) => (self.source.external)(location, *span)?,
                None => slice(bytes, *span).unwrap_or_default().to_vec(),
            },
            Payload::Strided { start, stride, .. } => {
                let mut raw = Vec::new();
                for i in 0..tensor.n_elements {
                    let start = start.saturating_add(i.saturating_mul(u64::from(*stride)));
                    let len = width as u64;
                    let element = slice(bytes, Span { start, len }).unwrap_or_default();
                    raw.extend_from_slice(element);
                }
                raw
            }
            Payload::Unpatchable(_) => raw_elements(bytes, tensor)?
                .ok_or_else(|| refused("are of a kind that cannot be rewritten"))?,
        };
        if raw.len() as u64 != tensor.n_elements.saturating_mul(width as u64) {
            return Err(refused("are not as many as its shape says").into());
        }
        Ok(Elements::new(data_type, raw))
    }

    /// Goes back from a value, by the first input of each node that may `pass`. Returns the value where
    /// that ends, and the nodes on the way.
    pub fn back<'n>(
        &'n self,
        mut name: &'n str,
        mut pass: impl FnMut(&Node<'_>) -> Result<bool>,
    ) -> Result<(&'n str, Vec<NodeId>)> {
        let mut nodes = Vec::new();
        while self.constant(name).is_none()
            && nodes.len() < MAX_CHAIN
            && let Some((id, node)) = self.producer(name)
            && pass(node)?
            && let Some(input) = node.inputs.first()
        {
            nodes.push(id);
            name = input;
        }
        Ok((name, nodes))
    }

    /// Returns the elements of a small constant, which may pass through Identity and Cast.
    pub fn small(&self, name: &str) -> Result<Option<Small>> {
        let passes =
            |node: &Node<'_>| matches!((node.domain, node.op_type), ("", "Identity" | "Cast"));
        let (name, _) = self.back(name, |node| Ok(passes(node)))?;
        let Some(id) = self.constant(name) else {
            return match self.producer(name) {
                Some((_, node)) if (node.domain, node.op_type) == ("", "Constant") => {
                    self.plain(node)
                }
                _ => Ok(None),
            };
        };
        let tensor = self.tensor(id)?;
        if tensor.n_elements > MAX_SMALL {
            return Ok(None);
        }
        let elements = self.load(id)?;
        Ok(Some(Small {
            dims: tensor.dims.clone(),
            values: (0..elements.len()).map(|i| elements.get(i)).collect(),
        }))
    }

    /// Returns the value of a Constant node without a tensor.
    fn plain(&self, node: &Node<'_>) -> Result<Option<Small>> {
        let attributes = self.attributes(node)?;
        let (dims, values) = match attributes.0.first().map(|a| &a.value) {
            Some(Setting::Float(value)) => (vec![], vec![f64::from(*value)]),
            Some(Setting::Int(value)) => (vec![], vec![*value as f64]),
            Some(Setting::Ints(values)) if values.len() as u64 <= MAX_SMALL => {
                let values: Vec<f64> = values.iter().map(|value| *value as f64).collect();
                (vec![values.len() as u64], values)
            }
            _ => return Ok(None),
        };
        Ok(Some(Small { dims, values }))
    }

    pub fn integers(&self, name: &str) -> Result<Option<Vec<i64>>> {
        let small = self.small(name)?;
        Ok(small.map(|small| small.values.iter().map(|value| *value as i64).collect()))
    }
}

/// Returns, for each graph, whether it is inside a function.
fn in_functions(model: &Model<'_>) -> Vec<bool> {
    let mut all: Vec<bool> = Vec::with_capacity(model.graphs.len());
    for graph in &model.graphs {
        let is_within = match graph.owner {
            GraphOwner::Model => false,
            GraphOwner::Function(_) => true,
            GraphOwner::Node { node, .. } => {
                let around = model.nodes.get(node.index()).map(|node| node.graph.index());
                around.and_then(|graph| all.get(graph)) == Some(&true)
            }
        };
        all.push(is_within);
    }
    all
}

impl<'a> Attributes<'a> {
    fn find(&self, name: &str) -> Option<&Setting<'a>> {
        let found = self.0.iter().find(|attribute| attribute.name == name)?;
        Some(&found.value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Returns an integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.find(name) {
            Some(Setting::Int(value)) => *value,
            _ => default,
        }
    }

    /// Returns a float attribute, or its default.
    pub fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(match self.find(name) {
            Some(Setting::Float(value)) => *value,
            _ => default,
        })
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.find(name) {
            Some(Setting::Ints(values)) => Some(values),
            _ => None,
        }
    }

    pub fn string(&self, name: &str) -> Option<&'a [u8]> {
        match self.find(name) {
            Some(Setting::String(value)) => Some(value),
            _ => None,
        }
    }
}

impl Small {
    /// Returns the value, if there is exactly one.
    pub fn scalar(&self) -> Option<f64> {
        match self.values[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// Returns the bytes of a range.
pub fn slice(bytes: &[u8], span: Span) -> Option<&[u8]> {
    let start = usize::try_from(span.start).ok()?;
    let end = usize::try_from(span.start.checked_add(span.len)?).ok()?;
    bytes.get(start..end)
}
