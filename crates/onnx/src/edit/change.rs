//! Changes within messages, which adjust the lengths of the messages around them.

use crate::edit::draft::{Draft, length_of};
use crate::edit::elements::{OF_ELEMENTS, RAW_DATA, put_head, put_number};
use crate::error::Error;
use crate::model::{Node, Span, Tensor};
use crate::proto::tensor_proto::DataType;
use crate::schema;
use crate::wire::{Message, Value};

/// A replacement of whole fields of a message, or an insertion between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Offset of the innermost message around the change.
    pub message: u64,
    /// Whole fields, or an empty span between two.
    pub taken: Span,
    /// The replacement.
    pub text: Vec<u8>,
}

/// A tensor to add, with its elements in `raw_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Element type.
    pub data_type: DataType,
    /// Shape.
    pub dims: &'a [u64],
    /// Elements, little-endian.
    pub raw: &'a [u8],
}

/// Adds an initializer to the main graph as an input of `node`, in an empty slot. It is visible
/// only to nodes of the main graph.
pub fn add_input(
    bytes: &[u8],
    node: &Node<'_>,
    slot: usize,
    tensor: NewTensor<'_>,
) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    let mut fields = Message::of_file(bytes).fields(schema::MODEL);
    while let Some(field) = fields.next()? {
        if field.number == 7 {
            let graph = field.message()?;
            changes.push(Change {
                message: graph.offset(),
                taken: Span {
                    start: graph.span().end(),
                    len: 0,
                },
                text: tensor.initializer(),
            });
        }
    }
    let end = node.offset.saturating_add(node.len);
    let mut taken = Span { start: end, len: 0 };
    let mut text = Vec::new();
    if slot < node.inputs.len() {
        let mut n = 0;
        let message = Message::within(bytes, node.offset as usize, end as usize);
        let mut fields = message.fields(schema::NODE);
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                if n == slot {
                    taken = field.span();
                }
                n += 1;
            }
        }
    }
    for _ in node.inputs.len()..slot {
        put_head(&mut text, 1, 0);
    }
    put_head(&mut text, 1, tensor.name.len());
    text.extend_from_slice(tensor.name.as_bytes());
    changes.push(Change {
        message: node.offset,
        taken,
        text,
    });
    Ok(changes)
}

impl NewTensor<'_> {
    /// Encodes the tensor as a field of a graph.
    pub(super) fn initializer(self) -> Vec<u8> {
        let NewTensor {
            name,
            data_type,
            dims,
            raw,
        } = self;
        let mut before = Vec::new();
        for dim in dims {
            put_number(&mut before, 1 << 3);
            put_number(&mut before, *dim);
        }
        put_number(&mut before, 2 << 3);
        put_number(&mut before, data_type as u64);
        put_head(&mut before, 8, name.len());
        before.extend_from_slice(name.as_bytes());
        put_head(&mut before, RAW_DATA, raw.len());
        let len = before.len() + raw.len();
        // Tag and length of the field take at most 11 bytes.
        let mut text = Vec::with_capacity(len + 11);
        put_head(&mut text, 5, len);
        text.extend_from_slice(&before);
        text.extend_from_slice(raw);
        text
    }
}

/// Replaces all elements of a tensor by `raw`, in `raw_data`.
pub fn set_elements(bytes: &[u8], tensor: &Tensor<'_>, raw: &[u8]) -> Result<Vec<Change>, Error> {
    let message = tensor.offset;
    let end = message.saturating_add(tensor.len);
    let mut changes = Vec::new();
    let all = Message::within(bytes, message as usize, end as usize);
    let mut fields = all.fields(schema::TENSOR);
    while let Some(field) = fields.next()? {
        if OF_ELEMENTS.contains(&field.number) {
            changes.push(Change {
                message,
                taken: field.span(),
                text: Vec::new(),
            });
        }
    }
    let mut text = Vec::new();
    put_head(&mut text, RAW_DATA, raw.len());
    text.extend_from_slice(raw);
    changes.push(Change {
        message,
        taken: Span { start: end, len: 0 },
        text,
    });
    Ok(changes)
}

/// Returns the ranges of the model file `bytes` to replace, in ascending order, with their
/// replacements: `changes`, and the lengths of all messages around them, which become minimal
/// varints.
///
/// # Errors
/// [`Error::Malformed`] if a message around a change is not a sequence of fields.
pub fn with_lengths(bytes: &[u8], mut changes: Vec<Change>) -> Result<Vec<(Span, Vec<u8>)>, Error> {
    // At one place, insertions into an inner message come before those into an outer one.
    changes.sort_by_key(|change| (change.taken.start, std::cmp::Reverse(change.message)));
    let mut draft = Draft::default();
    let changes: Vec<&Change> = changes.iter().collect();
    message(bytes, Message::of_file(bytes), &changes, &mut draft)?;
    Ok(draft
        .iter()
        .map(|(taken, text)| (taken, text.to_vec()))
        .collect())
}

/// Collects the edits within a message. Returns by how many bytes it grows.
fn message<'c>(
    bytes: &[u8],
    message: Message<'_>,
    changes: &[&'c Change],
    draft: &mut Draft<'c>,
) -> Result<i64, Error> {
    let (own, inner): (Vec<&Change>, Vec<&Change>) = changes
        .iter()
        .partition(|change| change.message == message.offset());
    let mut own = own.into_iter().peekable();
    let mut growth = 0;
    let mut fields = message.fields(schema::ANY);
    while let Some(field) = fields.next()? {
        while let Some(change) = own.next_if(|change| change.taken.start <= field.offset) {
            growth += draft.replace(change.taken, &change.text[..]);
        }
        let Value::Delimited(value) = field.value else {
            continue;
        };
        let is_inside = |change: &&&Change| (value.offset()..field.end).contains(&change.message);
        let inside: Vec<&Change> = inner.iter().filter(is_inside).copied().collect();
        if inside.is_empty() {
            continue;
        }
        let place = draft.len();
        let grown = self::message(bytes, value, &inside, draft)?;
        let length = length_of(bytes, &field, value);
        growth += grown + draft.lengthen(place, length, value.span().len, grown);
    }
    for change in own {
        growth += draft.replace(change.taken, &change.text[..]);
    }
    Ok(growth)
}
