//! Moves the elements of tensors elsewhere.

use zeroize::Zeroizing;

use crate::edit::{Change, apply};
use crate::error::Error;
use crate::external::PREPACKED;
use crate::model::{Span, Tensor};
use crate::schema::{ELEMENTS, entry, tensor};
use crate::wire::{Message, Value};
use crate::write::{entry_of, put_head, put_varint};

/// The place of a tensor's elements in a copy.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'e> {
    /// In `raw_data`.
    Inline(&'e [u8]),
    /// In the external data file `location`, the first `len` bytes.
    External { location: &'e str, len: u64 },
    /// Where they are in external data, without packed copies of them.
    Unpacked,
}

/// Copies the model file `bytes`, with the elements of some tensors moved or unpacked: of those
/// whose messages ([`Tensor::message`]) are in `moved`. All else is copied unread, except the
/// lengths of the messages around.
pub fn move_elements(
    bytes: &[u8],
    moved: &[(Span, Elements<'_>)],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut changes = Vec::new();
    for (message, elements) in moved {
        changes.extend(of_tensor(Message::within(bytes, *message), *elements)?);
    }
    apply(bytes, changes)
}

/// Replaces all elements of a tensor by `raw`, in `raw_data`.
pub fn set_elements<'e>(
    bytes: &[u8],
    of: &Tensor<'_>,
    raw: &'e [u8],
) -> Result<Vec<Change<'e>>, Error> {
    of_tensor(Message::within(bytes, of.message), Elements::Inline(raw))
}

/// Returns the changes of the `TensorProto` in `message`.
fn of_tensor<'e>(message: Message<'_>, elements: Elements<'e>) -> Result<Vec<Change<'e>>, Error> {
    let (offset, end) = (message.offset(), message.span().end());
    let mut changes = Vec::new();
    for field in message.fields(&tensor::SCHEMA) {
        let field = field?;
        let goes = match (&elements, field.number, field.value) {
            (Elements::Unpacked, tensor::external_data, Value::Delimited(value)) => {
                let [key] = value.strings(&entry::SCHEMA, [entry::key])?;
                key.starts_with(PREPACKED)
            }
            (Elements::Unpacked, ..) => false,
            (_, tensor::external_data | tensor::data_location, _) => true,
            (_, number, _) => ELEMENTS.contains(&number),
        };
        if goes {
            changes.push(Change {
                message: offset,
                taken: field.span(),
                text: [].as_slice().into(),
            });
        }
    }
    match elements {
        Elements::Unpacked => {}
        Elements::Inline(elements) => {
            let mut head = Vec::new();
            put_head(&mut head, tensor::raw_data, elements.len());
            changes.push(Change::insert(offset, end, head));
            changes.push(Change::insert(offset, end, elements));
        }
        Elements::External { location, len } => {
            let entries = [
                ("location", location),
                ("offset", "0"),
                ("length", &len.to_string()),
            ];
            let mut text = entries
                .map(|(key, value)| entry_of(tensor::external_data, key, value.as_bytes()))
                .concat();
            // DataLocation.EXTERNAL
            put_varint(&mut text, u64::from(tensor::data_location << 3));
            put_varint(&mut text, 1);
            changes.push(Change::insert(offset, end, text));
        }
    }
    Ok(changes)
}
