//! Finds the elements of a repeated `float` or `double` field.
//!
//! Writers pack them in one field, or write a field for each element; protobuf allows any mixture.

use crate::error::{Error, Fault};
use crate::model::{FileId, Payload, PayloadField, Span, Unpatchable};
use crate::wire::{Field, Value};

/// The elements seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) n: u64,
    pub(super) layout: Layout,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Layout {
    #[default]
    None,
    /// Without gaps, from this offset.
    Dense(u64),
    /// From this offset, with this many bytes from one to the next.
    Strided(u64, u32),
    Scattered,
}

impl Runs {
    /// Takes in one more field of elements of `width` bytes, 4 or 8. Returns whether it has any.
    pub(super) fn add(&mut self, field: &Field<'_>, width: u32) -> Result<bool, Error> {
        let span = match (field.value, width) {
            (Value::Fixed32(value), 4)
            | (Value::Fixed64(value), 8)
            | (Value::Delimited(value), _) => value.span(),
            (_, 4) => return Err(field.wire_type("4 bytes or a length-delimited value")),
            _ => return Err(field.wire_type("8 bytes or a length-delimited value")),
        };
        if !span.len.is_multiple_of(u64::from(width)) {
            let found = span.len;
            let fault = Fault::expected(format_args!("a multiple of {width} bytes"), found);
            return Err(field.name(Error::malformed(field.offset, fault)));
        }
        let n = span.len / u64::from(width);
        if n > 0 {
            self.layout = self.with(span.start, n);
            self.n = self.n.saturating_add(n);
        }
        Ok(n > 0)
    }

    /// Returns where the elements lie, which have `element_bits` each.
    pub(super) fn payload(self, field: PayloadField, element_bits: u32) -> Payload {
        match self.layout {
            Layout::None => Payload::Empty,
            Layout::Dense(start) => {
                let len = self.n.saturating_mul(u64::from(element_bits / 8));
                Payload::Dense {
                    file: FileId::MODEL,
                    span: Span { start, len },
                    field,
                    element_bits,
                }
            }
            Layout::Strided(start, stride) => Payload::Strided {
                start,
                stride,
                field,
                element_bits,
            },
            Layout::Scattered => Payload::Unpatchable(Unpatchable::Fragmented),
        }
    }

    /// Returns the layout with `n` more contiguous elements at `start`.
    fn with(&self, start: u64, n: u64) -> Layout {
        match (self.layout, self.n, n) {
            (Layout::None, _, _) => Layout::Dense(start),
            (Layout::Dense(first), 1, 1) => match u32::try_from(start.saturating_sub(first)) {
                Ok(stride) => Layout::Strided(first, stride),
                Err(_) => Layout::Scattered,
            },
            (Layout::Strided(first, stride), before, 1)
                if before.checked_mul(u64::from(stride)) == Some(start.saturating_sub(first)) =>
            {
                Layout::Strided(first, stride)
            }
            _ => Layout::Scattered,
        }
    }
}
