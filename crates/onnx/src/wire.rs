//! Reads the protobuf wire format in place.
//!
//! ```text
//! message = { tag value }        tag = varint(field number << 3 | wire type)
//! wire type 0: varint            1: 8 bytes            2: varint length, bytes            5: 4 bytes
//! ```
//!
//! Every offset is absolute, from the beginning of the file. The bytes of a length-delimited value
//! are read only on request.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>

use crate::error::{Error, Fault};
use crate::model::Span;

/// The words for a second field where one may be: parsers resolve that in different ways.
const DUPLICATE: &str = "expected one occurrence, found a second";
const VARINT: &str = "expected a varint of at most 64 bits";
const FIELD_NUMBER: &str = "a field number from 1 to 536870911";

/// The fields of a message that the reader knows.
pub(crate) struct Schema {
    message: &'static str,
    fields: &'static [Known],
    /// Bit `n` is set if field `n` may occur only once.
    singular: u64,
    /// Bit `n` is set if field `n` has a message that can contain tensors.
    outer: u64,
}

/// A field that the reader knows.
pub(crate) struct Known {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) is_single: bool,
    /// The message in it, if that can contain tensors.
    pub(crate) inside: &'static [&'static Schema],
}

impl Schema {
    pub(crate) const fn new(message: &'static str, fields: &'static [Known]) -> Schema {
        let (mut singular, mut outer, mut i) = (0, 0, 0);
        while i < fields.len() {
            singular |= (fields[i].is_single as u64) << fields[i].number;
            outer |= (fields[i].inside.len() as u64) << fields[i].number;
            i += 1;
        }
        Schema {
            message,
            fields,
            singular,
            outer,
        }
    }

    fn known(&self, number: u32) -> Option<&'static Known> {
        self.fields.iter().find(|known| known.number == number)
    }

    /// Returns the message in a field, if that can contain tensors.
    pub(crate) fn inside(&self, number: u32) -> Option<&'static Schema> {
        if number < 64 && self.outer >> number & 1 == 1 {
            self.known(number)?.inside.first().copied()
        } else {
            None
        }
    }

    pub(crate) fn is(&self, other: &Schema) -> bool {
        std::ptr::eq(self, other)
    }

    pub(crate) fn field_name(&self, number: u32) -> String {
        match self.known(number) {
            Some(known) => format!("{}.{}", self.message, known.name.trim_start_matches("r#")),
            None => format!("{}.{number}", self.message),
        }
    }
}

/// A message in a file.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// The whole file.
    bytes: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Message<'a> {
    /// Takes the whole file as one message.
    pub(crate) fn of_file(bytes: &'a [u8]) -> Message<'a> {
        Message {
            bytes,
            start: 0,
            end: bytes.len(),
        }
    }

    /// Takes a part of the file as one message.
    pub(crate) fn within(bytes: &'a [u8], part: Span) -> Message<'a> {
        let at =
            |offset: u64| usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        let (start, end) = (at(part.start), at(part.end()));
        Message { bytes, start, end }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.start as u64
    }

    pub(crate) fn span(&self) -> Span {
        Span {
            start: self.start as u64,
            len: self.end.saturating_sub(self.start) as u64,
        }
    }

    pub(crate) fn fields(self, schema: &'static Schema) -> Fields<'a> {
        Fields {
            message: self,
            position: self.start,
            seen: 0,
            schema,
        }
    }

    pub(crate) fn slice(&self) -> &'a [u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Returns the messages in a repeated field.
    pub(crate) fn all(
        self,
        schema: &'static Schema,
        number: u32,
    ) -> impl Iterator<Item = Result<Message<'a>, Error>> {
        self.fields(schema).filter_map(move |field| match field {
            Ok(field) if field.number != number => None,
            field => Some(field.and_then(|field| field.message())),
        })
    }

    /// Returns the strings in fields that may occur once; an empty one for a field that is absent.
    pub(crate) fn strings<const N: usize>(
        self,
        schema: &'static Schema,
        numbers: [u32; N],
    ) -> Result<[&'a str; N], Error> {
        let mut found = [""; N];
        for field in self.fields(schema) {
            let field = field?;
            for (place, number) in found.iter_mut().zip(numbers) {
                if field.number == number {
                    *place = field.string()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads the fields of a [`Message`], one after the other.
pub(crate) struct Fields<'a> {
    message: Message<'a>,
    position: usize,
    seen: u64,
    schema: &'static Schema,
}

#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: Value<'a>,
    /// Offset of the tag.
    pub(crate) offset: u64,
    /// Offset of the byte after the value.
    pub(crate) end: u64,
    schema: &'static Schema,
}

#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    /// 8 bytes.
    Fixed64(Message<'a>),
    /// A string, bytes, a message or a packed field.
    Delimited(Message<'a>),
    /// 4 bytes.
    Fixed32(Message<'a>),
}

impl<'a> Fields<'a> {
    /// Continues at `position` of the file, where a field of the message begins or the message
    /// ends.
    pub(crate) fn seek(&mut self, position: usize) {
        self.position = position;
    }

    /// Reads a field of the message, which goes on at `position`.
    #[inline]
    fn field(&mut self) -> Result<Field<'a>, Error> {
        let Message { bytes, end, .. } = self.message;
        let offset = self.position as u64;
        let (tag, at) = varint(bytes, self.position, end)?;
        let number = tag >> 3;
        if number == 0 || tag > u64::from(u32::MAX) {
            let fault = Fault::expected(FIELD_NUMBER, number);
            return Err(Error::malformed(offset, fault));
        }
        let number = number as u32;
        let name = |error: Error| error.in_field(self.schema.field_name(number));
        let wire_type = tag & 7;
        let (value, next) = if wire_type == 0 {
            let (value, next) = varint(bytes, at, end).map_err(name)?;
            (Value::Varint(value), next)
        } else {
            let (len, start) = match wire_type {
                1 => (8, at),
                2 => varint(bytes, at, end).map_err(name)?,
                5 => (4, at),
                other => {
                    let fault = Fault::expected("wire type 0, 1, 2 or 5", other);
                    return Err(name(Error::malformed(offset, fault)));
                }
            };
            let end = advance(start, len, end).map_err(name)?;
            let part = Message { bytes, start, end };
            let value = match wire_type {
                1 => Value::Fixed64(part),
                2 => Value::Delimited(part),
                _ => Value::Fixed32(part),
            };
            (value, end)
        };
        if number < 64 {
            let bit = 1 << number;
            if self.seen & self.schema.singular & bit != 0 {
                return Err(name(Error::malformed(offset, DUPLICATE)));
            }
            self.seen |= bit;
        }
        self.position = next;
        Ok(Field {
            number,
            value,
            offset,
            end: next as u64,
            schema: self.schema,
        })
    }
}

/// Ends after the message, and after an error.
impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Result<Field<'a>, Error>> {
        if self.position >= self.message.end {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.position = self.message.end;
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// Returns the whole field: tag, length and value.
    pub(crate) fn span(&self) -> Span {
        Span {
            start: self.offset,
            len: self.end.saturating_sub(self.offset),
        }
    }

    /// Returns where the length of `value`, this field's, is.
    pub(crate) fn length(&self, value: Message<'_>) -> Span {
        let tag = value.bytes.get(self.offset as usize..).unwrap_or_default();
        let tag_len = tag.iter().take_while(|byte| **byte >= 0x80).count() as u64 + 1;
        let start = self.offset + tag_len;
        Span {
            start,
            len: value.offset().saturating_sub(start),
        }
    }

    pub(crate) fn inside(&self) -> Option<&'static Schema> {
        self.schema.inside(self.number)
    }

    /// Returns what the schema knows of this field.
    pub(crate) fn known(&self) -> Option<&'static Known> {
        self.schema.known(self.number)
    }

    pub(crate) fn varint(&self) -> Result<u64, Error> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.wire_type("a varint")),
        }
    }

    /// Returns an int32 or enum, which protobuf writes sign-extended to 64 bits and cuts to 32.
    pub(crate) fn int32(&self) -> Result<i32, Error> {
        Ok(self.varint()? as i32)
    }

    /// Calls `each` with the varints of a repeated field, packed or not.
    pub(crate) fn varints(
        &self,
        mut each: impl FnMut(u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let name = |error| self.name(error);
        let Value::Delimited(Message { bytes, start, end }) = self.value else {
            return each(self.varint()?).map_err(name);
        };
        let mut at = start;
        while at < end {
            let (value, next) = varint(bytes, at, end).map_err(name)?;
            each(value).map_err(name)?;
            at = next;
        }
        Ok(())
    }

    pub(crate) fn message(&self) -> Result<Message<'a>, Error> {
        match self.value {
            Value::Delimited(message) => Ok(message),
            _ => Err(self.wire_type("a length-delimited value")),
        }
    }

    pub(crate) fn string(&self) -> Result<&'a str, Error> {
        let message = self.message()?;
        std::str::from_utf8(message.slice()).map_err(|error| {
            let offset = message.offset() + error.valid_up_to() as u64;
            self.name(Error::malformed(offset, "expected UTF-8"))
        })
    }

    pub(crate) fn wire_type(&self, expected: &'static str) -> Error {
        let found = match self.value {
            Value::Varint(_) => "a varint",
            Value::Fixed64(_) => "8 bytes",
            Value::Delimited(_) => "a length-delimited value",
            Value::Fixed32(_) => "4 bytes",
        };
        self.name(Error::malformed(
            self.offset,
            Fault::expected(expected, found),
        ))
    }

    pub(crate) fn name(&self, error: Error) -> Error {
        error.in_field(self.schema.field_name(self.number))
    }
}

/// Returns the varint at `at`, and the offset after it.
fn varint(bytes: &[u8], at: usize, end: usize) -> Result<(u64, usize), Error> {
    const MAX_BYTES: usize = 10;
    let rest = bytes.get(at..end).unwrap_or_default();
    let mut value = 0;
    for (i, &byte) in rest.iter().take(MAX_BYTES).enumerate() {
        // The tenth byte has room for one bit.
        if i + 1 == MAX_BYTES && byte > 1 {
            return Err(Error::malformed(at as u64, VARINT));
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok((value, at + i + 1));
        }
    }
    let found = rest.len() as u64;
    let fault = Fault::truncated(found + 1, found);
    Err(Error::malformed(at as u64, fault))
}

/// Returns the offset `len` bytes after `at`, or fails if that is past `end`.
fn advance(at: usize, len: u64, end: usize) -> Result<usize, Error> {
    let found = end.saturating_sub(at) as u64;
    if len > found {
        let fault = Fault::truncated(len, found);
        return Err(Error::malformed(at as u64, fault));
    }
    Ok(at + len as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const fn known(number: u32, name: &'static str, is_single: bool) -> Known {
        Known {
            number,
            name,
            is_single,
            inside: &[],
        }
    }

    const SCHEMA: &Schema = &Schema::new("Test", &[known(1, "one", true), known(2, "two", false)]);

    /// Returns number and span of every field, or the fault and its offset.
    fn read(bytes: &[u8]) -> Result<Vec<(u32, Span)>, (u64, Fault)> {
        let mut fields = Message::of_file(bytes).fields(SCHEMA);
        let mut found = Vec::new();
        loop {
            match fields.next() {
                Some(Ok(field)) => found.push((field.number, field.span())),
                None => return Ok(found),
                Some(Err(Error::Malformed { at, fault })) => return Err((at.offset, fault)),
                Some(Err(other)) => panic!("{other:?}"),
            }
        }
    }

    fn span(start: u64, len: u64) -> Span {
        Span { start, len }
    }

    #[test]
    fn fields_of_all_wire_types_have_their_span() {
        let bytes = [
            &[0x10, 0x96, 0x01][..],
            &[0x12, 2, 0xff, 0xff],
            &[0x15, 1, 2, 3, 4],
            &[0x11, 1, 2, 3, 4, 5, 6, 7, 8],
        ]
        .concat();
        let spans = [span(0, 3), span(3, 4), span(7, 5), span(12, 9)];
        assert_eq!(read(&bytes).unwrap(), spans.map(|span| (2, span)));
        let mut fields = Message::of_file(&bytes).fields(SCHEMA);
        assert_eq!(fields.next().unwrap().unwrap().varint().unwrap(), 150);
    }

    #[test]
    fn nested_messages_keep_absolute_offsets() {
        let bytes = [0x12, 4, 0x12, 2, 0x10, 7];
        let outer = Message::of_file(&bytes)
            .fields(SCHEMA)
            .next()
            .unwrap()
            .unwrap();
        let middle = outer
            .message()
            .unwrap()
            .fields(SCHEMA)
            .next()
            .unwrap()
            .unwrap();
        let inner = middle
            .message()
            .unwrap()
            .fields(SCHEMA)
            .next()
            .unwrap()
            .unwrap();
        assert_eq!((inner.offset, inner.varint().unwrap()), (4, 7));
    }

    #[test]
    fn varints_have_at_most_ten_bytes_and_sixty_four_bits() {
        let with = |varint: &[u8]| [&[0x10], varint].concat();
        let value = |varint: &[u8]| {
            let bytes = with(varint);
            let mut fields = Message::of_file(&bytes).fields(SCHEMA);
            fields.next().unwrap().unwrap().varint().unwrap()
        };
        assert_eq!(
            value(&[0xff; 9].iter().copied().chain([1]).collect::<Vec<_>>()),
            u64::MAX
        );
        assert_eq!(value(&[0x80, 0x80, 0x00]), 0);
        let tenth_too_large: Vec<u8> = [0xff; 9].into_iter().chain([2]).collect();
        assert_eq!(read(&with(&tenth_too_large)), Err((1, VARINT.into())));
        let eleven: Vec<u8> = [0x80; 10].into_iter().chain([1]).collect();
        assert_eq!(read(&with(&eleven)), Err((1, VARINT.into())));
        let cut = Fault::truncated(4, 3);
        assert_eq!(read(&with(&[0x80; 3])), Err((1, cut)));
    }

    #[test]
    fn field_numbers_have_one_to_twenty_nine_bits() {
        let tag = |tag: &[u8]| [tag, &[0]].concat();
        assert_eq!(
            read(&tag(&[0xf8, 0xff, 0xff, 0xff, 0x0f])).unwrap()[0].0,
            (1 << 29) - 1
        );
        let number = |found| Fault::expected(FIELD_NUMBER, found);
        let beyond = tag(&[0x80, 0x80, 0x80, 0x80, 0x10]);
        assert_eq!(read(&beyond), Err((0, number(1 << 29))));
        assert_eq!(read(&tag(&[0x00])), Err((0, number(0))));
    }

    #[test]
    fn fixed_fields_end_inside_the_message() {
        for (tag, width) in [(0x15, 4), (0x11, 8)] {
            for len in 0..width {
                let bytes = [vec![tag], vec![0; len]].concat();
                let cut = Fault::truncated(width as u64, len as u64);
                assert_eq!(read(&bytes), Err((1, cut)));
            }
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (bytes, name) in [(&[0x0a, 9][..], "Test.one"), (&[0x3a, 9], "Test.7")] {
            let mut fields = Message::of_file(bytes).fields(SCHEMA);
            let Some(Err(Error::Malformed { at, .. })) = fields.next() else {
                panic!();
            };
            assert_eq!(at.field.as_deref(), Some(name));
        }
    }
}
