//! Moves the elements of tensors elsewhere.

use zeroize::Zeroizing;

use crate::edit::draft::{Draft, apply, length_of};
use crate::entry::entry;
use crate::error::Error;
use crate::external::PREPACKED;
use crate::model::Span;
use crate::schema::{self, DATA_LOCATION, EXTERNAL_DATA};
use crate::wire::{Message, Value, put_varint};

/// The place of a tensor's elements in a copy.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'e> {
    /// In `raw_data`.
    Inline(&'e [u8]),
    /// In the external data file `location`, the first `len` bytes.
    External {
        /// `location` in `TensorProto.external_data`.
        location: &'e str,
        /// `length` there, in bytes.
        len: u64,
    },
    /// Where they are in external data, without packed copies of them.
    Unpacked,
}

/// Fields of `TensorProto` that contain elements, or say where they are.
pub(super) const OF_ELEMENTS: [u32; 9] = [4, 5, 6, 7, 9, 10, 11, 13, 14];
pub(super) const RAW_DATA: u32 = 9;

/// Copies the model file `bytes`, with the elements of some tensors moved or unpacked.
///
/// `moved` has the offset of each of these tensors ([`Tensor::offset`](crate::model::Tensor)), in
/// ascending order. Lengths of messages around these tensors become minimal varints; all else is
/// copied unread.
///
/// # Errors
/// [`Error::Malformed`] if a tensor or a message around it is not a sequence of fields;
/// [`Error::Memory`].
pub fn move_elements(
    bytes: &[u8],
    moved: &[(u64, Elements<'_>)],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut draft = Draft::default();
    let grown = message(bytes, Message::of_file(bytes), moved, &mut draft)?;
    let len = (bytes.len() as u64).saturating_add_signed(grown);
    let len_bytes = usize::try_from(len).unwrap_or(usize::MAX);
    let mut out = Zeroizing::new(Vec::new());
    let memory = || Error::Memory { len_bytes };
    // Enough from the start: what moves leaves itself behind.
    out.try_reserve_exact(len_bytes).map_err(|_| memory())?;
    apply(bytes, draft.iter(), &mut out).ok_or_else(memory)?;
    Ok(out)
}

/// Collects the edits within `message`, which contains all the tensors in `moved` and is not one
/// itself. Returns by how many bytes it grows.
fn message<'e>(
    bytes: &[u8],
    message: Message<'_>,
    mut moved: &[(u64, Elements<'e>)],
    draft: &mut Draft<'e>,
) -> Result<i64, Error> {
    let mut growth = 0;
    let mut fields = message.fields(schema::ANY);
    while let Some(field) = fields.next()? {
        let n_inside = moved.partition_point(|(offset, _)| *offset < field.end);
        let (inside, after) = moved.split_at(n_inside);
        moved = after;
        let Value::Delimited(value) = field.value else {
            continue;
        };
        let place = draft.len();
        let grown = match inside {
            [] => continue,
            [(offset, elements)] if *offset == value.offset() => tensor(value, *elements, draft)?,
            inside => self::message(bytes, value, inside, draft)?,
        };
        let length = length_of(bytes, &field, value);
        growth += grown + draft.lengthen(place, length, value.span().len, grown);
    }
    Ok(growth)
}

/// Collects the edits of the `TensorProto` in `message`. Returns by how many bytes it grows.
fn tensor<'e>(
    message: Message<'_>,
    elements: Elements<'e>,
    draft: &mut Draft<'e>,
) -> Result<i64, Error> {
    let mut growth = 0;
    let mut fields = message.fields(schema::TENSOR);
    while let Some(field) = fields.next()? {
        let goes = match (&elements, field.number, field.value) {
            (Elements::Unpacked, EXTERNAL_DATA, Value::Delimited(value)) => {
                entry(value)?.0.starts_with(PREPACKED)
            }
            (Elements::Unpacked, ..) => false,
            (_, number, _) => OF_ELEMENTS.contains(&number),
        };
        if goes {
            let taken = Span {
                start: field.offset,
                len: field.end - field.offset,
            };
            growth += draft.replace(taken, &[][..]);
        }
    }
    let end = Span {
        start: message.span().end(),
        len: 0,
    };
    let mut text = Vec::new();
    match elements {
        Elements::Unpacked => {}
        Elements::Inline(elements) => {
            put_head(&mut text, RAW_DATA, elements.len());
            growth += draft.replace(end, text);
            growth += draft.replace(end, elements);
        }
        Elements::External { location, len } => {
            for (key, value) in [
                ("location", location),
                ("offset", "0"),
                ("length", &len.to_string()),
            ] {
                let mut entry = Vec::new();
                for (number, part) in [(1, key), (2, value)] {
                    put_head(&mut entry, number, part.len());
                    entry.extend_from_slice(part.as_bytes());
                }
                put_head(&mut text, EXTERNAL_DATA, entry.len());
                text.extend_from_slice(&entry);
            }
            // DataLocation.EXTERNAL
            put_number(&mut text, u64::from(DATA_LOCATION << 3));
            put_number(&mut text, 1);
            growth += draft.replace(end, text);
        }
    }
    Ok(growth)
}

/// Appends the tag and the length of a length-delimited field.
pub(super) fn put_head(out: &mut Vec<u8>, number: u32, len: usize) {
    put_number(out, u64::from(number << 3 | 2));
    put_number(out, len as u64);
}

pub(super) fn put_number(out: &mut Vec<u8>, value: u64) {
    put_varint(value, |part| out.extend_from_slice(part));
}
