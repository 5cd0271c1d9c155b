//! Edits that change the length of a file and can be undone: ranges are replaced, all other bytes
//! copied as they are.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::error::Error;
use crate::external;
use crate::locate::entry;
use crate::model::Span;
use crate::schema::{self, Kind};
use crate::wire::{Field, Message, Value, put_varint};

/// Messages within messages, at most: far more than `locate` takes.
const MAX_DEPTH: usize = 200;

/// Replacements of ranges of a file, in ascending order, that neither touch nor overlap.
///
/// Each edit is three numbers: how many bytes to copy, how many to leave out, and the index of the text
/// to put in their place. After the last edit, the rest is copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// `[skip, take, text, skip, take, text, ...]`
    numbers: Vec<u64>,
    texts: Texts,
}

/// Byte strings, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    /// Adds one. Returns `false` if all together would have 2^32 bytes or more.
    #[must_use]
    pub fn push(&mut self, text: &[u8]) -> bool {
        let end = self.bytes.len().saturating_add(text.len());
        let Ok(end) = u32::try_from(end) else {
            return false;
        };
        self.bytes.extend_from_slice(text);
        self.ends.push(end);
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The one at `index`, counted from 0.
    pub fn get(&self, index: u64) -> Option<&[u8]> {
        let index = usize::try_from(index).ok()?;
        let start = match index.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)? as usize,
        };
        self.bytes.get(start..*self.ends.get(index)? as usize)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u64).filter_map(|index| self.get(index))
    }
}

impl Edits {
    /// The edits that `numbers` describe, of a file of `len` bytes.
    ///
    /// # Errors
    /// Says which rule is broken: there is at least one edit; each leaves out at least one byte and
    /// copies at least one before, but for the first; they lie within the file; the texts have at
    /// least one byte each and are all used, in the order of their first use.
    pub fn new(numbers: Vec<u64>, texts: Texts, len: u64) -> Result<Edits, &'static str> {
        if numbers.is_empty() || !numbers.len().is_multiple_of(3) {
            return Err("edits are not in threes");
        }
        let (mut end, mut n_used) = (0u64, 0u64);
        for (i, edit) in numbers.chunks_exact(3).enumerate() {
            let &[skip, take, text] = edit else { continue };
            if take == 0 || (skip == 0 && i > 0) {
                return Err("an edit is empty");
            }
            let next = end.checked_add(skip).and_then(|end| end.checked_add(take));
            end = next
                .filter(|&end| end <= len)
                .ok_or("edits reach past the file")?;
            if text > n_used {
                return Err("texts are not in the order of their first use");
            }
            n_used = n_used.max(text + 1);
        }
        if n_used != texts.len() as u64 {
            return Err("texts and edits do not fit together");
        }
        if texts.iter().any(<[u8]>::is_empty) {
            return Err("a text is empty");
        }
        Ok(Edits { numbers, texts })
    }

    /// The numbers, in threes.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// The texts that are put in.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Whether nothing is replaced.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The ranges that are left out, and the bytes in their place.
    pub fn iter(&self) -> impl Iterator<Item = (Span, &[u8])> {
        let mut end = 0u64;
        self.numbers.chunks_exact(3).map(move |edit| {
            let (skip, take, text) = match *edit {
                [skip, take, text] => (skip, take, text),
                _ => (0, 0, 0),
            };
            let start = end.saturating_add(skip);
            end = start.saturating_add(take);
            let text = self.texts.get(text).unwrap_or_default();
            (Span { start, len: take }, text)
        })
    }

    /// The new length of a file of `len` bytes; `None` if the edits reach past it.
    pub fn len_after(&self, len: u64) -> Option<u64> {
        let (mut end, mut after) = (0, len);
        for (taken, text) in self.iter() {
            end = taken.end();
            // Taken bytes are among those counted.
            after = after
                .checked_sub(taken.len)?
                .checked_add(text.len() as u64)?;
        }
        (end <= len).then_some(after)
    }

    /// A copy of `bytes` with all edits applied; `None` if the edits reach past them.
    pub fn apply(&self, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let len = usize::try_from(self.len_after(bytes.len() as u64)?).ok()?;
        // Enough from the start: what moves leaves itself behind.
        let mut out = Zeroizing::new(Vec::with_capacity(len));
        let mut end = 0;
        for (taken, text) in self.iter() {
            out.extend_from_slice(bytes.get(end..taken.start as usize)?);
            out.extend_from_slice(text);
            end = taken.end() as usize;
        }
        out.extend_from_slice(bytes.get(end..)?);
        Some(out)
    }

    /// The edits that turn the edited file back into `bytes`, the file before the edits; `None` if the edits
    /// reach past it.
    pub fn undo(&self, bytes: &[u8]) -> Option<Edits> {
        let mut undo = Builder::default();
        // Where the byte after the last edit lies, in the file before and in that after it.
        let (mut before, mut after) = (0, 0);
        for (taken, text) in self.iter() {
            let start = after + (taken.start - before);
            let replaced = bytes.get(taken.start as usize..taken.end() as usize)?;
            let put = Span {
                start,
                len: text.len() as u64,
            };
            undo.push(put, replaced)?;
            (before, after) = (taken.end(), put.end());
        }
        Some(undo.edits)
    }
}

/// Edits that are being collected, in ascending order.
#[derive(Default)]
struct Builder<'t> {
    edits: Edits,
    end: u64,
    known: HashMap<&'t [u8], u64>,
}

impl<'t> Builder<'t> {
    fn push(&mut self, taken: Span, text: &'t [u8]) -> Option<()> {
        let new = self.known.len() as u64;
        let index = *self.known.entry(text).or_insert(new);
        if index == new && !self.edits.texts.push(text) {
            return None;
        }
        let skip = taken.start.checked_sub(self.end)?;
        self.edits.numbers.extend([skip, taken.len, index]);
        self.end = taken.end();
        Some(())
    }
}

/// The edits that rename external data files in the model file `bytes`: `names` has the new
/// normalised location of each normalised location.
///
/// Whatever may be a tensor's location is renamed: initializers, sparse ones, attributes, subgraphs,
/// functions with their defaults, training information. Lengths of what holds a location become
/// minimal varints; no other byte changes.
///
/// # Errors
/// [`Error::Malformed`] where the file is no model; [`Error::LimitExceeded`] where it is too deep.
pub fn rename_external(bytes: &[u8], names: &HashMap<String, String>) -> Result<Edits, Error> {
    let mut renaming = Renaming {
        bytes,
        names,
        found: Vec::new(),
    };
    renaming.message(Kind::Model, Message::of_file(bytes), 0)?;
    let mut builder = Builder::default();
    for (taken, text) in &renaming.found {
        builder
            .push(*taken, text)
            .ok_or_else(|| Error::limit(taken.start, "bytes of locations", u64::from(u32::MAX)))?;
    }
    Ok(builder.edits)
}

struct Renaming<'a> {
    bytes: &'a [u8],
    names: &'a HashMap<String, String>,
    /// Ranges to replace, and by what.
    found: Vec<(Span, Vec<u8>)>,
}

impl<'a> Renaming<'a> {
    /// Collects the edits within `message`; returns by how many bytes it grows.
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
                    let place = self.found.len();
                    match self.message(inner, value, depth + 1)? {
                        0 => 0,
                        grown => grown + self.lengthen(place, length, value.span().len, grown),
                    }
                }
                _ => 0,
            };
        }
        Ok(growth)
    }

    /// Replaces the length of a value of `len` bytes that grows; the edit belongs before those at
    /// `place`. Returns by how many bytes the length itself grows.
    fn lengthen(&mut self, place: usize, length: Span, len: u64, grown: i64) -> i64 {
        let mut text = Vec::new();
        put_varint(len.saturating_add_signed(grown), |part| {
            text.extend_from_slice(part);
        });
        let growth = text.len() as i64 - length.len as i64;
        self.found.insert(place, (length, text));
        growth
    }

    /// Replaces an entry, with its length, if it is a location that has a new name.
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
        let growth = text.len() as i64 - taken.len as i64;
        self.found.push((taken, text));
        Ok(growth)
    }
}

/// The varint that says how long the value of `field` is.
fn length_of(bytes: &[u8], field: &Field<'_>, value: Message<'_>) -> Span {
    let tag = bytes.get(field.offset as usize..).unwrap_or_default();
    let tag_len = tag.iter().take_while(|byte| **byte >= 0x80).count() as u64 + 1;
    let start = field.offset + tag_len;
    Span {
        start,
        len: value.offset().saturating_sub(start),
    }
}
