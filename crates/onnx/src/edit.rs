//! Edits that change the length of a file: they replace ranges, and copy all other bytes.
//!
//! A [`Change`] replaces fields of a message. [`with_lengths`] adds the lengths of the messages
//! around it, and [`apply`] copies the file so changed. [`rename_external`] returns edits that can
//! be stored and undone; [`parts`] lists the fields of the main graph.

mod edits;
mod elements;
mod parts;
mod rename;

pub use edits::Edits;
pub use elements::{Elements, move_elements, set_elements};
pub(crate) use parts::main_graph;
pub use parts::{NewTensor, Part, PartKind, Parts, add_input, add_metadata, parts};
pub use rename::rename_external;

use std::borrow::Cow;
use std::iter::Peekable;

use zeroize::Zeroizing;

use crate::error::{Error, Fault};
use crate::model::Span;
use crate::schema;
use crate::wire::{Message, Value};
use crate::write::put_varint;

/// A replacement of whole fields of a message, or an insertion between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'t> {
    /// Offset of the innermost message around the change.
    pub message: u64,
    /// Whole fields, or an empty span between two.
    pub taken: Span,
    pub text: Cow<'t, [u8]>,
}

impl<'t> Change<'t> {
    pub fn into_owned(self) -> Change<'static> {
        Change {
            message: self.message,
            taken: self.taken,
            text: self.text.into_owned().into(),
        }
    }

    fn insert(message: u64, at: u64, text: impl Into<Cow<'t, [u8]>>) -> Change<'t> {
        Change {
            message,
            taken: Span { start: at, len: 0 },
            text: text.into(),
        }
    }
}

/// A range of a file, and its replacement.
type Replaced<'t> = (Span, Cow<'t, [u8]>);

/// Copies the model file `bytes` with `changes`, and with the lengths of the messages around them.
pub fn apply(bytes: &[u8], changes: Vec<Change<'_>>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let edits = with_lengths(bytes, changes)?;
    let growth = |(taken, text): &Replaced<'_>| text.len() as i64 - taken.len as i64;
    let grown: i64 = edits.iter().map(growth).sum();
    let len_bytes = bytes.len().saturating_add_signed(grown as isize);
    let edits = edits.iter().map(|(taken, text)| (*taken, &**text));
    copy(bytes, edits, len_bytes).ok_or(Error::Memory { len_bytes })
}

/// Returns the ranges of the model file `bytes` to replace, in ascending order, with their
/// replacements: `changes`, and the lengths of all messages that they make longer or shorter. These
/// lengths become minimal varints.
pub fn with_lengths<'t>(
    bytes: &[u8],
    mut changes: Vec<Change<'t>>,
) -> Result<Vec<Replaced<'t>>, Error> {
    // At one place, insertions into an inner message come before those into an outer one. So the
    // changes within a message are those that come next.
    changes.sort_by_key(|change| (change.taken.start, std::cmp::Reverse(change.message)));
    let mut walk = Walk {
        changes: changes.into_iter().peekable(),
        edits: Vec::new(),
    };
    walk.message(Message::of_file(bytes))?;
    if let Some(left) = walk.changes.next() {
        let fault = Fault::expected("a message", "none");
        return Err(Error::malformed(left.message, fault));
    }
    // Lengths that stay.
    walk.edits
        .retain(|(taken, text)| taken.len + text.len() as u64 > 0);
    Ok(walk.edits)
}

/// One walk through the messages around changes.
struct Walk<'t> {
    /// The changes that are not among the edits yet.
    changes: Peekable<std::vec::IntoIter<Change<'t>>>,
    edits: Vec<Replaced<'t>>,
}

impl Walk<'_> {
    /// Adds the edits within a message. Returns by how many bytes it grows.
    fn message(&mut self, message: Message<'_>) -> Result<i64, Error> {
        let mut growth = 0;
        for field in message.fields(&schema::ANY) {
            let field = field?;
            growth += self.own(message, field.offset);
            let (Value::Delimited(value), Some(change)) = (field.value, self.changes.peek()) else {
                continue;
            };
            if !(value.offset()..=field.end).contains(&change.message) {
                continue;
            }
            let place = self.edits.len();
            let nothing = Span { start: 0, len: 0 };
            self.edits.push((nothing, Cow::Borrowed(&[])));
            let grown = self.message(value)?;
            if let (Some(edit), 1..) = (self.edits.get_mut(place), grown.unsigned_abs()) {
                let length = field.length(value);
                let mut text = Vec::new();
                put_varint(&mut text, value.span().len.saturating_add_signed(grown));
                growth += grown + text.len() as i64 - length.len as i64;
                *edit = (length, text.into());
            }
        }
        Ok(growth + self.own(message, u64::MAX))
    }

    /// Adds the changes of the message itself up to `end`.
    fn own(&mut self, message: Message<'_>, end: u64) -> i64 {
        let mut growth = 0;
        let is_own = |c: &Change<'_>| c.message == message.offset() && c.taken.start <= end;
        while let Some(change) = self.changes.next_if(is_own) {
            growth += change.text.len() as i64 - change.taken.len as i64;
            self.edits.push((change.taken, change.text));
        }
        growth
    }
}

/// Copies `bytes` with `edits` into `len` bytes. Returns `None` if the edits reach past `bytes`, or
/// there is no memory.
fn copy<'t>(
    bytes: &[u8],
    edits: impl Iterator<Item = (Span, &'t [u8])>,
    len: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    // Enough from the start: what moves leaves itself behind.
    let mut out = Zeroizing::new(Vec::new());
    out.try_reserve_exact(len).ok()?;
    let mut end = 0;
    for (taken, text) in edits {
        out.extend_from_slice(bytes.get(end..taken.start as usize)?);
        out.extend_from_slice(text);
        end = taken.end() as usize;
    }
    out.extend_from_slice(bytes.get(end..)?);
    Some(out)
}
