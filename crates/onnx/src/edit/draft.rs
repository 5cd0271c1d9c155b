//! Collects replacements, and the new lengths of the messages around them.

use std::borrow::Cow;

use crate::model::Span;
use crate::wire::{Field, Message, put_varint};

/// Ranges to replace, in ascending order, with their replacements.
#[derive(Default)]
pub(super) struct Draft<'t>(Vec<(Span, Cow<'t, [u8]>)>);

impl<'t> Draft<'t> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Span, &[u8])> {
        self.0.iter().map(|(taken, text)| (*taken, &**text))
    }

    /// Replaces a range after all others. Returns by how many bytes it grows.
    pub(super) fn replace(&mut self, taken: Span, text: impl Into<Cow<'t, [u8]>>) -> i64 {
        let text = text.into();
        let growth = text.len() as i64 - taken.len as i64;
        self.0.push((taken, text));
        growth
    }

    /// Replaces the length of a growing value of `len` bytes, as an edit before those from `place`
    /// on. Returns by how many bytes the length itself grows.
    pub(super) fn lengthen(&mut self, place: usize, length: Span, len: u64, grown: i64) -> i64 {
        let mut text = Vec::new();
        put_varint(len.saturating_add_signed(grown), |part| {
            text.extend_from_slice(part);
        });
        let growth = text.len() as i64 - length.len as i64;
        self.0.insert(place, (length, text.into()));
        growth
    }
}

/// Appends `bytes` with all `edits` applied to `out`. Returns `None` if the edits reach past the
/// bytes.
pub(super) fn apply<'t>(
    bytes: &[u8],
    edits: impl Iterator<Item = (Span, &'t [u8])>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut end = 0;
    for (taken, text) in edits {
        out.extend_from_slice(bytes.get(end..taken.start as usize)?);
        out.extend_from_slice(text);
        end = taken.end() as usize;
    }
    out.extend_from_slice(bytes.get(end..)?);
    Some(())
}

/// Returns the span of the varint with the length of `field`'s value.
pub(super) fn length_of(bytes: &[u8], field: &Field<'_>, value: Message<'_>) -> Span {
    let tag = bytes.get(field.offset as usize..).unwrap_or_default();
    let tag_len = tag.iter().take_while(|byte| **byte >= 0x80).count() as u64 + 1;
    let start = field.offset + tag_len;
    Span {
        start,
        len: value.offset().saturating_sub(start),
    }
}
