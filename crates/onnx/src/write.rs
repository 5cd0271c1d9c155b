//! Writes the protobuf wire format.

pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends the tag and the length of a length-delimited field.
pub(crate) fn put_head(out: &mut Vec<u8>, number: u32, len: usize) {
    put_varint(out, u64::from(number << 3 | 2));
    put_varint(out, len as u64);
}

pub(crate) fn field_of(number: u32, value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len() + 12);
    put_head(&mut text, number, value.len());
    text.extend_from_slice(value);
    text
}

/// Encodes a `StringStringEntryProto` in the field `number`, up to its value of `len` bytes.
pub(crate) fn entry_head(number: u32, key: &str, len: usize) -> Vec<u8> {
    let mut inner = field_of(1, key.as_bytes());
    put_head(&mut inner, 2, len);
    let mut head = Vec::new();
    put_head(&mut head, number, inner.len() + len);
    head.extend_from_slice(&inner);
    head
}

/// Encodes a `StringStringEntryProto` in the field `number`.
pub(crate) fn entry_of(number: u32, key: &str, value: &[u8]) -> Vec<u8> {
    [&entry_head(number, key, value.len()), value].concat()
}
