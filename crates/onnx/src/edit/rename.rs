//! Renames external data files.

use std::collections::HashMap;

use crate::edit::edits::{Builder, Edits};
use crate::edit::{Change, with_lengths};
use crate::error::Error;
use crate::external;
use crate::model::Span;
use crate::schema::{self, entry, model, tensor};
use crate::wire::{Field, Message, Schema, Value};
use crate::write::put_varint;

/// The deepest nesting of messages, far more than `locate` accepts.
const MAX_DEPTH: usize = 200;

/// Returns the edits that rename external data files in the model file `bytes`. `names` maps each
/// normalised location to the new one.
///
/// This renames every possible location of a tensor: in initializers, sparse ones, attributes,
/// subgraphs, functions with their defaults, and training information. Lengths of messages around a
/// location become minimal varints; no other byte changes.
pub fn rename_external(bytes: &[u8], names: &HashMap<String, String>) -> Result<Edits, Error> {
    let (file, mut changes) = (Message::of_file(bytes), Vec::new());
    rename(&model::SCHEMA, file, names, 0, &mut changes)?;
    let edits = with_lengths(bytes, changes)?;
    let mut builder = Builder::default();
    for (taken, text) in &edits {
        builder.push(*taken, text);
    }
    Ok(builder.edits)
}

/// Collects the changes within `message`.
fn rename(
    schema: &Schema,
    message: Message<'_>,
    names: &HashMap<String, String>,
    depth: usize,
    changes: &mut Vec<Change<'static>>,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        let (at, limit) = (message.offset(), MAX_DEPTH as u64);
        return Err(Error::limit(at, "messages in messages", limit));
    }
    for field in message.fields(&schema::ANY) {
        let field = field?;
        let Value::Delimited(value) = field.value else {
            continue;
        };
        if schema.is(&tensor::SCHEMA) && field.number == tensor::external_data {
            changes.extend(renamed(message, field, value, names)?);
        } else if let Some(inner) = schema.inside(field.number) {
            rename(inner, value, names, depth + 1, changes)?;
        }
    }
    Ok(())
}

/// Returns the change of an entry, with its length, if it is a location with a new name.
fn renamed(
    tensor: Message<'_>,
    field: Field<'_>,
    value: Message<'_>,
    names: &HashMap<String, String>,
) -> Result<Option<Change<'static>>, Error> {
    let [key, location] = value.strings(&entry::SCHEMA, [entry::key, entry::value])?;
    let new = match external::normalise(location) {
        Ok(location) if key == "location" => names.get(&location),
        _ => None,
    };
    let Some(new) = new else { return Ok(None) };
    let mut inner = Vec::new();
    for part in value.fields(&entry::SCHEMA) {
        let part = part?;
        let from = (part.offset - value.offset()) as usize;
        let (copied, text) = match (part.number, part.value) {
            (entry::value, Value::Delimited(old)) => (part.length(old).start, new.as_bytes()),
            _ => (part.end, &[][..]),
        };
        let copied = from..(copied - value.offset()) as usize;
        inner.extend_from_slice(value.slice().get(copied).unwrap_or_default());
        if part.number == entry::value {
            put_varint(&mut inner, text.len() as u64);
            inner.extend_from_slice(text);
        }
    }
    let mut text = Vec::with_capacity(inner.len() + 2);
    put_varint(&mut text, inner.len() as u64);
    text.extend_from_slice(&inner);
    let start = field.length(value).start;
    Ok(Some(Change {
        message: tensor.offset(),
        taken: Span {
            start,
            len: field.end - start,
        },
        text: text.into(),
    }))
}
