//! Replaces the layer and the nodes after it.

use std::collections::HashSet;

use onnxseal_onnx::edit::{NewTensor, Part, PartKind, Parts, add_metadata, parts};
use onnxseal_onnx::model::{NodeId, TensorRole};
use onnxseal_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use onnxseal_onnx::proto::{
    AttributeProto, NodeProto, TensorShapeProto, ValueInfoProto, attribute_proto, type_proto,
};
use onnxseal_rewrite::{Changes, DataType, Edit, Graph, Refusal, Result, Source};
use prost::Message as _;

use crate::head::layer::Kind;
use crate::head::tail::{cast, decoded, value_info};
use crate::head::{Head, KEY};
use crate::stored::Stored;

/// The first version of the file format with initializers that are not inputs.
const INITIALIZERS_ALONE: i64 = 4;

/// The rows that replace classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub weights: Vec<f32>,
    /// Biases, `[R]`; absent if neither the layer had any nor a trace needs one.
    pub bias: Option<Vec<f32>>,
}

impl Head {
    /// Encodes rows as they are stored: transposed for a MatMul.
    pub fn stored(&self, rows: &Rows) -> Stored {
        let n = rows.weights.len() / self.columns.max(1);
        let (r, d) = (n as u64, self.columns as u64);
        let mut weights = Vec::with_capacity(rows.weights.len() * 4);
        let dims = match self.layer.kind {
            Kind::MatMul => {
                for column in 0..self.columns {
                    let column = rows.weights.iter().skip(column).step_by(self.columns);
                    weights.extend(column.flat_map(|value| value.to_le_bytes()));
                }
                vec![d, r]
            }
            Kind::Gemm => vec![r, d],
            Kind::Conv => [&[r], &self.layer.window[..]].concat(),
        };
        if weights.is_empty() {
            weights.extend(rows.weights.iter().flat_map(|value| value.to_le_bytes()));
        }
        let bytes = |values: &Vec<f32>| {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        Stored {
            dims,
            weights,
            bias: rows.bias.as_ref().map(bytes),
        }
    }

    /// Returns the edits that make the model answer with `stored` rows and contain `table`.
    pub fn edits(&self, source: &Source<'_>, stored: &Stored, table: &str) -> Result<Vec<Edit>> {
        let graph = Graph::new(*source);
        let all = parts(source.bytes)?;
        let mut work = Work {
            head: self,
            graph: &graph,
            parts: &all,
            changes: Changes::default(),
        };
        work.add_layer(stored)?;
        work.remove()?;
        work.put_output(stored)?;
        let entry = add_metadata(source.bytes, KEY, table);
        work.changes.inserts.push(entry);
        work.changes.edits(&graph)
    }
}

struct Work<'a> {
    head: &'a Head,
    graph: &'a Graph<'a>,
    parts: &'a Parts<'a>,
    changes: Changes,
}

impl Work<'_> {
    fn part_of(&self, node: NodeId) -> Result<Part<'_>> {
        let message = self.graph.node(node)?.message;
        let mut nodes = self
            .parts
            .all
            .iter()
            .filter(|part| part.kind == PartKind::Node);
        let found = nodes.find(|part| part.message == message);
        found
            .copied()
            .ok_or_else(|| Refusal::new("a node is missing").into())
    }

    /// Adds the new layer's nodes and constants.
    fn add_layer(&mut self, stored: &Stored) -> Result<()> {
        let (graph, layer) = (self.graph, &self.head.layer);
        let node = graph.node(layer.node)?;
        let original: NodeProto = decoded(graph, node.message)?;
        let mut nodes = Vec::new();
        let mut input = layer.input.clone();
        if layer.weights.data_type != DataType::Float {
            let features = graph.free_name("onnxseal.features");
            nodes.push(cast(&input, &features, DataType::Float));
            input = features;
        }
        let weight = graph.free_name("onnxseal.labels.weight");
        let bias = graph.free_name("onnxseal.labels.bias");
        self.add_tensor(&weight, &stored.dims, &stored.weights);
        if let Some(values) = &stored.bias {
            self.add_tensor(&bias, &[values.len() as u64 / 4], values);
        }
        let has_bias = stored.bias.is_some();
        let mut inputs = vec![input, weight];
        match layer.kind {
            Kind::MatMul if has_bias => {
                let product = graph.free_name("onnxseal.product");
                nodes.push(NodeProto {
                    input: inputs,
                    output: vec![product.clone()],
                    ..original
                });
                let add = match layer.add {
                    Some(add) => decoded(graph, graph.node(add)?.message)?,
                    None => NodeProto {
                        op_type: Some("Add".into()),
                        ..NodeProto::default()
                    },
                };
                nodes.push(NodeProto {
                    input: vec![product, bias],
                    output: vec![layer.result.clone()],
                    ..add
                });
            }
            kind => {
                if has_bias {
                    inputs.push(bias);
                }
                let mut attribute = original.attribute;
                if kind == Kind::Gemm {
                    attribute.retain(|attribute| attribute.name.as_deref() != Some("transB"));
                    attribute.push(AttributeProto {
                        name: Some("transB".into()),
                        i: Some(1),
                        r#type: Some(attribute_proto::AttributeType::Int as i32),
                        ..AttributeProto::default()
                    });
                }
                nodes.push(NodeProto {
                    input: inputs,
                    output: vec![layer.result.clone()],
                    attribute,
                    ..original
                });
            }
        }
        let before = self.part_of(layer.node)?;
        let inserts: Vec<_> = nodes
            .iter()
            .map(|node| {
                self.parts
                    .insert_before(&before, PartKind::Node, &node.encode_to_vec())
            })
            .collect();
        self.changes.inserts.extend(inserts);
        Ok(())
    }

    fn add_tensor(&mut self, name: &str, dims: &[u64], raw: &[u8]) {
        // Files of the first versions list each initializer among the inputs.
        let version = self.graph.model().ir_version;
        if version.is_none_or(|version| version < INITIALIZERS_ALONE) {
            let dim = dims.iter().map(|dim| fixed(*dim as i64)).collect();
            let info = value_info(name, DataType::Float, Some(TensorShapeProto { dim }));
            let part = self.parts.append(PartKind::Input, &info.encode_to_vec());
            self.changes.inserts.push(part);
        }
        self.changes
            .inserts
            .push(self.parts.append_tensor(NewTensor {
                name,
                data_type: DataType::Float,
                dims,
                raw,
            }));
    }

    /// Removes the old layer, the nodes after it, and all constants that become unused.
    fn remove(&mut self) -> Result<()> {
        let (graph, head) = (self.graph, self.head);
        let mut removed: HashSet<NodeId> = head.layer.nodes().chain(head.moved.nodes()).collect();
        let is_unread = |removed: &HashSet<NodeId>, name: &str| {
            graph
                .readers(name)
                .iter()
                .all(|reader| removed.contains(reader))
                && !graph.is_output(name)
        };
        let chains = head
            .layer
            .constants()
            .flat_map(|constant| constant.nodes.iter().copied());
        let mut open: Vec<NodeId> = chains.chain(head.moved.constants()).collect();
        loop {
            let mut unread = Vec::new();
            for id in &open {
                let node = graph.node(*id)?;
                if node.outputs.iter().all(|name| is_unread(&removed, name)) {
                    unread.push(*id);
                }
            }
            if unread.is_empty() {
                break;
            }
            open.retain(|id| !unread.contains(id));
            removed.extend(unread);
        }
        let mut names: HashSet<&str> = HashSet::new();
        let mut gone: HashSet<&str> = HashSet::new();
        for id in &removed {
            let node = graph.node(*id)?;
            gone.extend(node.outputs.iter().copied());
            names.extend(node.inputs.iter().copied());
        }
        names.retain(|name| graph.constant(name).is_some() && is_unread(&removed, name));
        for constant in head.layer.constants() {
            let tensor = graph.tensor(constant.tensor)?;
            let is_gone = match tensor.place {
                TensorRole::Attribute { node, .. } => removed.contains(&node),
                _ => names.contains(tensor.name),
            };
            if !is_gone {
                let name = onnxseal_onnx::excerpt(tensor.name);
                let reason = format!(
                    "another node reads its weights {name:?} too, and would keep them in plain"
                );
                let node = graph.node(head.layer.node)?;
                return Err(Refusal::new(reason)
                    .advise("save the model again so that the last layer has weights of its own")
                    .at(node)
                    .into());
            }
            self.changes.blank(graph, constant.tensor)?;
        }
        for id in &removed {
            let part = self.parts.remove(&self.part_of(*id)?);
            self.changes.inserts.push(part);
        }
        for part in &self.parts.all {
            let is_gone = match part.kind {
                PartKind::Initializer | PartKind::Input => names.contains(part.name),
                PartKind::ValueInfo | PartKind::Annotation => {
                    gone.contains(part.name) || names.contains(part.name)
                }
                PartKind::Node | PartKind::Output => false,
            };
            if is_gone {
                self.changes.inserts.push(self.parts.remove(part));
            }
        }
        Ok(())
    }

    /// Replaces the first output that moves by the answers, and removes the others.
    fn put_output(&mut self, stored: &Stored) -> Result<()> {
        let head = self.head;
        let info = self.answers(stored)?;
        let moved = &head.moved.outputs;
        let is_moved = |part: &&Part<'_>| {
            part.kind == PartKind::Output && moved.iter().any(|name| name == part.name)
        };
        for (i, part) in self.parts.all.iter().filter(is_moved).enumerate() {
            self.changes.inserts.push(match i {
                0 => self.parts.replace(part, &info.encode_to_vec()),
                _ => self.parts.remove(part),
            });
        }
        Ok(())
    }

    /// Returns the type of the answers: the known shape of the layer's result, with as many classes
    /// as rows.
    fn answers(&self, stored: &Stored) -> Result<ValueInfoProto> {
        let layer = &self.head.layer;
        let n_rows = match layer.kind {
            Kind::MatMul => stored.dims.last(),
            Kind::Gemm | Kind::Conv => stored.dims.first(),
        };
        let n_rows = n_rows.copied().unwrap_or(0) as i64;
        let mut infos = self.parts.all.iter().filter(|part| {
            matches!(part.kind, PartKind::ValueInfo | PartKind::Output) && part.name == layer.result
        });
        let known = match infos.next() {
            Some(part) => {
                let info: ValueInfoProto = decoded(self.graph, part.message)?;
                match info.r#type.and_then(|known| known.value) {
                    Some(type_proto::Value::TensorType(tensor)) => tensor.shape,
                    _ => None,
                }
            }
            None => None,
        };
        let rank = match layer.kind {
            Kind::Conv => layer.window.len() + 1,
            Kind::Gemm | Kind::MatMul => 2,
        };
        let mut shape = known.unwrap_or_else(|| TensorShapeProto {
            dim: vec![Dimension::default(); rank],
        });
        let place = match layer.kind {
            Kind::MatMul => shape.dim.last_mut(),
            Kind::Gemm | Kind::Conv => shape.dim.get_mut(1),
        };
        if let Some(place) = place {
            *place = fixed(n_rows);
        }
        Ok(value_info(&layer.result, DataType::Float, Some(shape)))
    }
}

fn fixed(size: i64) -> Dimension {
    Dimension {
        value: Some(dimension::Value::DimValue(size)),
        ..Dimension::default()
    }
}
