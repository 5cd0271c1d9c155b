//! Edits that can be stored and undone.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::edit::copy;
use crate::model::Span;

/// Replacements of ranges of a file, in ascending order, with gaps between them.
///
/// Each edit is three numbers: how many bytes to copy, how many to leave out, and the index of the
/// text to insert instead. After the last edit, the rest is copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// `[skip, take, text, skip, take, text, ...]`
    numbers: Vec<u64>,
    texts: Vec<Vec<u8>>,
}

impl Edits {
    /// Makes the edits that `numbers` describe, for a file of `len` bytes, if they are in the one
    /// form that a file has: each leaves out a byte and, except the first, copies one before; the
    /// texts have a byte each and are all used, in the order of their first use.
    pub fn new(numbers: Vec<u64>, texts: Vec<Vec<u8>>, len: u64) -> Result<Edits, &'static str> {
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
        if texts.iter().any(Vec::is_empty) {
            return Err("a text is empty");
        }
        Ok(Edits { numbers, texts })
    }

    /// Returns the numbers, in threes.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    pub fn texts(&self) -> &[Vec<u8>] {
        &self.texts
    }

    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Returns the ranges to leave out, and the bytes to insert instead.
    pub fn iter(&self) -> impl Iterator<Item = (Span, &[u8])> {
        let mut end = 0u64;
        self.numbers.chunks_exact(3).map(move |edit| {
            let (skip, take, text) = match *edit {
                [skip, take, text] => (skip, take, text),
                _ => (0, 0, 0),
            };
            let start = end.saturating_add(skip);
            end = start.saturating_add(take);
            let text = self.texts.get(text as usize).map_or(&[][..], Vec::as_slice);
            (Span { start, len: take }, text)
        })
    }

    /// Returns the new length of a file of `len` bytes, or `None` if the edits reach past it.
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

    /// Returns a copy of `bytes` with all edits applied, or `None` if the edits reach past them.
    pub fn apply(&self, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let len = self.len_after(bytes.len() as u64)?;
        copy(bytes, self.iter(), usize::try_from(len).ok()?)
    }

    /// Returns the edits that turn the edited file back into `bytes`, the file before the edits, or
    /// `None` if the edits reach past it.
    pub fn undo(&self, bytes: &[u8]) -> Option<Edits> {
        let mut undo = Builder::default();
        // The position after the last edit, in the file before and in the file after.
        let (mut before, mut after) = (0, 0);
        for (taken, text) in self.iter() {
            let start = after + (taken.start - before);
            let replaced = bytes.get(taken.start as usize..taken.end() as usize)?;
            let put = Span {
                start,
                len: text.len() as u64,
            };
            undo.push(put, replaced);
            (before, after) = (taken.end(), put.end());
        }
        Some(undo.edits)
    }
}

/// Collects edits, in ascending order.
#[derive(Default)]
pub(super) struct Builder<'t> {
    pub(super) edits: Edits,
    end: u64,
    known: HashMap<&'t [u8], u64>,
}

impl<'t> Builder<'t> {
    pub(super) fn push(&mut self, taken: Span, text: &'t [u8]) {
        let new = self.known.len() as u64;
        let index = *self.known.entry(text).or_insert(new);
        if index == new {
            self.edits.texts.push(text.to_vec());
        }
        let skip = taken.start.saturating_sub(self.end);
        self.edits.numbers.extend([skip, taken.len, index]);
        self.end = taken.end();
    }
}
