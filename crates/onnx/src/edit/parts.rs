//! The fields of the main graph, and changes that add or remove whole ones.

use crate::edit::change::{Change, NewTensor};
use crate::edit::elements::put_head;
use crate::error::Error;
use crate::model::Span;
use crate::schema;
use crate::wire::{Message, Schema};

/// The kind of a graph's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// `GraphProto.node`.
    Node,
    /// `GraphProto.initializer`.
    Initializer,
    /// `GraphProto.input`.
    Input,
    /// `GraphProto.output`.
    Output,
    /// `GraphProto.value_info`.
    ValueInfo,
    /// `GraphProto.quantization_annotation`.
    Annotation,
}

/// A field of the main graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The kind.
    pub kind: PartKind,
    /// The name of the tensor or value; empty for nodes.
    pub name: &'a str,
    /// The whole field: tag, length and message.
    pub field: Span,
    /// The message in it.
    pub message: Span,
}

/// The fields of the main graph, in file order.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// The `GraphProto`.
    pub graph: Span,
    /// Its fields of the kinds in [`PartKind`].
    pub all: Vec<Part<'a>>,
}

/// Lists the fields of the main graph of the model file `bytes`.
pub fn parts(bytes: &[u8]) -> Result<Parts<'_>, Error> {
    let mut parts = Parts {
        graph: Span { start: 0, len: 0 },
        all: Vec::new(),
    };
    let mut fields = Message::of_file(bytes).fields(schema::MODEL);
    while let Some(field) = fields.next()? {
        if field.number != 7 {
            continue;
        }
        let graph = field.message()?;
        parts.graph = graph.span();
        let mut fields = graph.fields(schema::GRAPH);
        while let Some(field) = fields.next()? {
            let (kind, name) = match field.number {
                1 => (PartKind::Node, None),
                5 => (PartKind::Initializer, Some((schema::TENSOR, 8))),
                11 => (PartKind::Input, Some((schema::VALUE_INFO, 1))),
                12 => (PartKind::Output, Some((schema::VALUE_INFO, 1))),
                13 => (PartKind::ValueInfo, Some((schema::VALUE_INFO, 1))),
                14 => (PartKind::Annotation, Some((schema::ANY, 1))),
                _ => continue,
            };
            let message = field.message()?;
            let name = match name {
                Some((schema, number)) => string(message, schema, number)?,
                None => "",
            };
            parts.all.push(Part {
                kind,
                name,
                field: field.span(),
                message: message.span(),
            });
        }
    }
    Ok(parts)
}

/// Returns the string in a field of a message.
fn string<'a>(
    message: Message<'a>,
    schema: &'static Schema,
    number: u32,
) -> Result<&'a str, Error> {
    let mut found = "";
    let mut fields = message.fields(schema);
    while let Some(field) = fields.next()? {
        if field.number == number {
            found = field.string()?;
        }
    }
    Ok(found)
}

impl Parts<'_> {
    /// Leaves a field out.
    pub fn remove(&self, part: &Part<'_>) -> Change {
        Change {
            message: self.graph.start,
            taken: part.field,
            text: Vec::new(),
        }
    }

    /// Replaces the message in a field.
    pub fn replace(&self, part: &Part<'_>, message: &[u8]) -> Change {
        Change {
            taken: part.field,
            ..self.insert(part.field.start, part.kind, message)
        }
    }

    /// Adds a field before another one.
    pub fn insert_before(&self, part: &Part<'_>, kind: PartKind, message: &[u8]) -> Change {
        self.insert(part.field.start, kind, message)
    }

    /// Adds a field after all others.
    pub fn append(&self, kind: PartKind, message: &[u8]) -> Change {
        self.insert(self.graph.end(), kind, message)
    }

    /// Adds an initializer after all fields.
    pub fn append_tensor(&self, tensor: NewTensor<'_>) -> Change {
        Change {
            text: tensor.initializer(),
            ..self.append(PartKind::Initializer, &[])
        }
    }

    fn insert(&self, at: u64, kind: PartKind, message: &[u8]) -> Change {
        let number = match kind {
            PartKind::Node => 1,
            PartKind::Initializer => 5,
            PartKind::Input => 11,
            PartKind::Output => 12,
            PartKind::ValueInfo => 13,
            PartKind::Annotation => 14,
        };
        Change {
            message: self.graph.start,
            taken: Span { start: at, len: 0 },
            text: field_of(number, message),
        }
    }
}

/// Adds an entry of `metadata_props` to the model file `bytes`.
pub fn add_metadata(bytes: &[u8], key: &str, value: &str) -> Change {
    let mut entry = field_of(1, key.as_bytes());
    entry.extend_from_slice(&field_of(2, value.as_bytes()));
    Change {
        message: 0,
        taken: Span {
            start: bytes.len() as u64,
            len: 0,
        },
        text: field_of(14, &entry),
    }
}

fn field_of(number: u32, value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len() + 12);
    put_head(&mut text, number, value.len());
    text.extend_from_slice(value);
    text
}
