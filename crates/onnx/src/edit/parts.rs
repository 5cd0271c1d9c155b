//! The fields of the main graph, and changes that add or remove whole ones.

use crate::edit::Change;
use crate::error::Error;
use crate::model::{Node, Span};
use crate::proto::tensor_proto::DataType;
use crate::schema::{annotation, graph, model, node, tensor, value_info};
use crate::wire::Message;
use crate::write::{entry_of, field_of, put_head, put_varint};

/// A tensor to add, with its elements in `raw_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTensor<'a> {
    pub name: &'a str,
    pub data_type: DataType,
    pub dims: &'a [u64],
    /// Elements, little-endian.
    pub raw: &'a [u8],
}

impl NewTensor<'_> {
    /// Encodes the tensor as a field of a graph.
    fn initializer(self) -> Vec<u8> {
        let mut before = Vec::new();
        for dim in self.dims {
            put_varint(&mut before, (tensor::dims << 3).into());
            put_varint(&mut before, *dim);
        }
        put_varint(&mut before, (tensor::data_type << 3).into());
        put_varint(&mut before, self.data_type as u64);
        before.extend_from_slice(&field_of(tensor::name, self.name.as_bytes()));
        put_head(&mut before, tensor::raw_data, self.raw.len());
        let len = before.len() + self.raw.len();
        // Tag and length of the field take at most 11 bytes.
        let mut text = Vec::with_capacity(len + 11);
        put_head(&mut text, graph::initializer, len);
        text.extend_from_slice(&before);
        text.extend_from_slice(self.raw);
        text
    }
}

/// Adds an initializer to the main graph as an input of `node`, in an empty slot. It is visible
/// only to nodes of the main graph.
pub fn add_input(
    bytes: &[u8],
    node: &Node<'_>,
    slot: usize,
    tensor: NewTensor<'_>,
) -> Result<Vec<Change<'static>>, Error> {
    let message = Message::within(bytes, node.message);
    let end = message.span().end();
    let mut taken = Span { start: end, len: 0 };
    let mut n = 0;
    for field in message.fields(&node::SCHEMA) {
        let field = field?;
        if field.number == node::input {
            if n == slot {
                taken = field.span();
            }
            n += 1;
        }
    }
    let mut text = Vec::new();
    for _ in n..slot {
        put_head(&mut text, node::input, 0);
    }
    text.extend_from_slice(&field_of(node::input, tensor.name.as_bytes()));
    let mut changes = vec![Change {
        message: message.offset(),
        taken,
        text: text.into(),
    }];
    if let Some(graph) = main_graph(bytes)? {
        let (graph, end) = (graph.offset(), graph.span().end());
        changes.push(Change::insert(graph, end, tensor.initializer()));
    }
    Ok(changes)
}

/// Returns the main graph of the model file `bytes`.
pub(crate) fn main_graph(bytes: &[u8]) -> Result<Option<Message<'_>>, Error> {
    let graphs = Message::of_file(bytes).all(&model::SCHEMA, model::graph);
    graphs.last().transpose()
}

/// The kind of a graph's field, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    Node = 1,
    Initializer = 5,
    Input = 11,
    Output = 12,
    ValueInfo = 13,
    Annotation = 14,
}

/// A field of the main graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    pub kind: PartKind,
    /// The name of the tensor or value; empty for nodes.
    pub name: &'a str,
    /// With tag and length.
    pub field: Span,
    pub message: Span,
}

/// The fields of the main graph, in file order.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    pub graph: Span,
    pub all: Vec<Part<'a>>,
}

/// Lists the fields of the main graph of the model file `bytes`.
pub fn parts(bytes: &[u8]) -> Result<Parts<'_>, Error> {
    let mut parts = Parts {
        graph: Span { start: 0, len: 0 },
        all: Vec::new(),
    };
    let Some(graph) = main_graph(bytes)? else {
        return Ok(parts);
    };
    parts.graph = graph.span();
    let value = Some((&value_info::SCHEMA, value_info::name));
    for field in graph.fields(&graph::SCHEMA) {
        let field = field?;
        let (kind, schema) = match field.number {
            graph::node => (PartKind::Node, None),
            graph::initializer => (PartKind::Initializer, Some((&tensor::SCHEMA, tensor::name))),
            graph::input => (PartKind::Input, value),
            graph::output => (PartKind::Output, value),
            graph::value_info => (PartKind::ValueInfo, value),
            graph::quantization_annotation => (
                PartKind::Annotation,
                Some((&annotation::SCHEMA, annotation::tensor_name)),
            ),
            _ => continue,
        };
        let message = field.message()?;
        let [name] = match schema {
            Some((schema, number)) => message.strings(schema, [number])?,
            None => [""],
        };
        parts.all.push(Part {
            kind,
            name,
            field: field.span(),
            message: message.span(),
        });
    }
    Ok(parts)
}

impl Parts<'_> {
    pub fn remove(&self, part: &Part<'_>) -> Change<'static> {
        Change {
            message: self.graph.start,
            taken: part.field,
            text: [].as_slice().into(),
        }
    }

    pub fn replace(&self, part: &Part<'_>, message: &[u8]) -> Change<'static> {
        Change {
            taken: part.field,
            ..self.insert_before(part, part.kind, message)
        }
    }

    pub fn insert_before(
        &self,
        part: &Part<'_>,
        kind: PartKind,
        message: &[u8],
    ) -> Change<'static> {
        let text = field_of(kind as u32, message);
        Change::insert(self.graph.start, part.field.start, text)
    }

    pub fn append(&self, kind: PartKind, message: &[u8]) -> Change<'static> {
        self.append_field(field_of(kind as u32, message))
    }

    pub fn append_tensor(&self, tensor: NewTensor<'_>) -> Change<'static> {
        self.append_field(tensor.initializer())
    }

    fn append_field(&self, text: Vec<u8>) -> Change<'static> {
        Change::insert(self.graph.start, self.graph.end(), text)
    }
}

/// Adds an entry of `metadata_props` to the model file `bytes`.
pub fn add_metadata(bytes: &[u8], key: &str, value: &str) -> Change<'static> {
    let entry = entry_of(model::metadata_props, key, value.as_bytes());
    Change::insert(0, bytes.len() as u64, entry)
}
