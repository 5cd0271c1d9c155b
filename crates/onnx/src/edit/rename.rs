//! Renames external data files.

use std::collections::HashMap;

use crate::edit::draft::{Draft, length_of};
use crate::edit::edits::{Builder, Edits};
use crate::entry::entry;
use crate::error::Error;
use crate::external;
use crate::model::Span;
use crate::schema::{self, Kind};
use crate::wire::{Message, Value, put_varint};

/// The deepest nesting of messages, far more than `locate` accepts.
const MAX_DEPTH: usize = 200;

/// Returns the edits that rename external data files in the model file `bytes`. `names` maps each
/// normalised location to the new one.
///
/// This renames every possible location of a tensor: in initializers, sparse ones, attributes,
/// subgraphs, functions with their defaults, and training information. Lengths of messages around a
/// location become minimal varints; no other byte changes.
///
/// # Errors
/// [`Error::Malformed`] if the file is not a model; [`Error::LimitExceeded`] if it nests too
/// deeply.
pub fn rename_external(bytes: &[u8], names: &HashMap<String, String>) -> Result<Edits, Error> {
    let mut renaming = Renaming {
        bytes,
        names,
        draft: Draft::default(),
    };
    renaming.message(Kind::Model, Message::of_file(bytes), 0)?;
    let mut builder = Builder::default();
    for (taken, text) in renaming.draft.iter() {
        builder
            .push(taken, text)
            .ok_or_else(|| Error::limit(taken.start, "bytes of locations", u64::from(u32::MAX)))?;
    }
    Ok(builder.edits)
}

struct Renaming<'a> {
    bytes: &'a [u8],
    names: &'a HashMap<String, String>,
    draft: Draft<'static>,
}

impl<'a> Renaming<'a> {
    /// Collects the edits within `message`. Returns by how many bytes it grows.
    fn message(&mut self, kind: Kind, message: Message<'a>, depth: usize) -> Result<i64, Error> {
        if depth > MAX_DEPTH {
            let limit = MAX_DEPTH as u64;
            return Err(Error::limit(
                message.offset(),
                "messages in messages",
                limit,
            ));
        }
        let mut growth = 0;
        let mut fields = message.fields(schema::ANY);
        while let Some(field) = fields.next()? {
            let Value::Delimited(value) = field.value else {
                continue;
            };
            let length = length_of(self.bytes, &field, value);
            growth += match (kind, field.number, kind.inside(field.number)) {
                (Kind::Tensor, schema::EXTERNAL_DATA, _) => self.entry(length, value)?,
                (_, _, Some(inner)) => {
                    let place = self.draft.len();
                    match self.message(inner, value, depth + 1)? {
                        0 => 0,
                        grown => {
                            let len = value.span().len;
                            grown + self.draft.lengthen(place, length, len, grown)
                        }
                    }
                }
                _ => 0,
            };
        }
        Ok(growth)
    }

    /// Replaces an entry, with its length, if it is a location with a new name.
    fn entry(&mut self, length: Span, value: Message<'a>) -> Result<i64, Error> {
        let (key, location) = entry(value)?;
        let new = match external::normalise(location) {
            Ok(location) if key == "location" => self.names.get(&location),
            _ => None,
        };
        let Some(new) = new else { return Ok(0) };
        let mut inner = Vec::new();
        let mut fields = value.fields(schema::ENTRY);
        while let Some(field) = fields.next()? {
            match (field.number, field.value) {
                (2, Value::Delimited(old)) => {
                    let tag =
                        field.offset as usize..length_of(self.bytes, &field, old).start as usize;
                    inner.extend_from_slice(self.bytes.get(tag).unwrap_or_default());
                    put_varint(new.len() as u64, |part| inner.extend_from_slice(part));
                    inner.extend_from_slice(new.as_bytes());
                }
                _ => {
                    let all = field.offset as usize..field.end as usize;
                    inner.extend_from_slice(self.bytes.get(all).unwrap_or_default());
                }
            }
        }
        let mut text = Vec::with_capacity(inner.len() + 2);
        put_varint(inner.len() as u64, |part| text.extend_from_slice(part));
        text.extend_from_slice(&inner);
        let taken = Span {
            start: length.start,
            len: length.len + value.span().len,
        };
        Ok(self.draft.replace(taken, text))
    }
}
