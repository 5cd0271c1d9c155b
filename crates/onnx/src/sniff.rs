//! Tells models from other files by their contents.

use std::ops::Range;

/// Returns whether a file's bytes are an ONNX model, whatever the file's name.
///
/// True for every file that ONNX Runtime loads as a protobuf model, with fields in any order and
/// with any unknown fields, unless its graph is empty; for models and adapters (LoRA) in
/// ONNX Runtime's own formats; and for little else. The rule for protobuf models:
///
/// 1. All bytes are protobuf fields, and so are the messages in `graph`, `opset_import`,
///    `metadata_props`, `training_info` and `functions`, and those in the graph's `node`,
///    `initializer`, `input`, `output`, `value_info`, `quantization_annotation` and
///    `sparse_initializer`. Deeper messages, and those that came after ONNX 1.15, are not examined.
/// 2. `ir_version` exists, and `opset_import` too unless `ir_version` is 1 or 2, which had none.
/// 3. `graph` has a node with an `op_type`, an initializer with a `data_type`, a sparse initializer
///    with values, or an input or output with a name.
///
/// This reads fields as parsers do, more leniently than [`crate::locate`]: a field of another wire
/// type than the schema's counts as unknown, groups are skipped, several `graph` fields are one
/// graph, and varints may be longer than necessary. So `locate` may refuse a file that this calls a
/// model. A truncated or damaged file is often not a model here.
///
pub fn sniff(bytes: &[u8]) -> bool {
    let mut whole = bytes;
    flat_buffer(&mut whole).is_some()
        || is_model(&mut whole, 0..bytes.len() as u64).unwrap_or(false)
}

/// Sniffs as [`sniff`] does, in a file of `len` bytes: `fetch` fills a buffer with the bytes at an
/// offset. Offsets ascend, without repetition, and parts that [`sniff`] does not examine, such as
/// weights, are skipped if they are longer than a fetch. Most files that are not models take one
/// fetch: of 4 KiB, or of 64 KiB if fetches are requests to a `remote` store.
pub fn sniff_by<E>(
    len: u64,
    remote: bool,
    fetch: impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<bool, E> {
    let mut fetched = Fetched {
        fetch,
        len,
        first: if remote { 64 << 10 } else { 4 << 10 },
        bytes: Vec::new(),
        start: 0,
        failed: None,
    };
    // Do not ask for bytes beyond the end of a shorter file.
    let is_flat = len >= FLAT_HEAD_BYTES && flat_buffer(&mut fetched).is_some();
    let is_model = is_flat || is_model(&mut fetched, 0..len).unwrap_or(false);
    match fetched.failed {
        Some(error) => Err(error),
        None => Ok(is_model),
    }
}

/// A file's bytes, asked for in ascending order.
pub(crate) trait Bytes {
    /// Returns the byte at `offset`, or `None` past the end or if it cannot be fetched.
    fn at(&mut self, offset: u64) -> Option<u8>;
}

impl Bytes for &[u8] {
    fn at(&mut self, offset: u64) -> Option<u8> {
        self.get(offset as usize).copied()
    }
}

/// The last fetched part of a file.
struct Fetched<F, E> {
    fetch: F,
    /// Length of the file.
    len: u64,
    /// Bytes of a fetch after a gap; each contiguous fetch doubles it.
    first: u64,
    bytes: Vec<u8>,
    /// Offset of `bytes` in the file.
    start: u64,
    failed: Option<E>,
}

/// The most bytes of a fetch.
const MOST_BYTES: u64 = 4 << 20;

impl<E, F: FnMut(&mut [u8], u64) -> Result<(), E>> Bytes for Fetched<F, E> {
    fn at(&mut self, offset: u64) -> Option<u8> {
        let there = (self.bytes.len() as u64, offset.checked_sub(self.start)?);
        let (len, place) = there;
        if place >= len {
            if self.failed.is_some() {
                return None;
            }
            let ahead = if place - len <= len {
                (2 * len).clamp(self.first, MOST_BYTES)
            } else {
                self.first
            };
            let ahead = ahead.min(self.len.checked_sub(offset)?);
            self.bytes.clear();
            self.bytes.resize(ahead as usize, 0);
            self.start = offset;
            if let Err(error) = (self.fetch)(&mut self.bytes, offset) {
                self.failed = Some(error);
                self.bytes.clear();
            }
        }
        let place = offset - self.start;
        self.bytes.get(place as usize).copied()
    }
}

/// The bytes that identify a flat buffer.
const FLAT_HEAD_BYTES: u64 = 8;

/// Returns which of ONNX Runtime's own formats a file has. The identifier stands after the offset
/// of the root table, which lies near the beginning. In ONNX's format, the zeros here would be part
/// of a name's length.
pub(crate) fn flat_buffer(file: &mut impl Bytes) -> Option<FlatBuffer> {
    let head: Option<Vec<u8>> = (0..FLAT_HEAD_BYTES).map(|offset| file.at(offset)).collect();
    match head.as_deref()? {
        [_, _, 0, 0, b'O', b'R', b'T', b'M'] => Some(FlatBuffer::Model),
        [_, _, 0, 0, b'T', b'O', b'R', b'T'] => Some(FlatBuffer::Adapter),
        _ => None,
    }
}

/// A format of ONNX Runtime's own, a flat buffer.
#[derive(PartialEq)]
pub(crate) enum FlatBuffer {
    /// `.ort`, identifier ORTM.
    Model,
    /// `.onnx_adapter`, identifier TORT: weights that were trained, without the model.
    Adapter,
}

/// Returns whether it is a protobuf model, or `None` if the bytes are not protobuf.
fn is_model(file: &mut impl Bytes, all: Range<u64>) -> Option<bool> {
    let (mut ir_version, mut has_opset, mut has_graph) = (None, false, false);
    each_field(file, all, |file, number, value| {
        match (number, value) {
            (1, Value::Varint(value)) => ir_version = Some(value),
            (7, Value::Delimited(graph)) => has_graph |= is_graph(file, graph)?,
            (8, Value::Delimited(opset)) => {
                is_message(file, opset)?;
                has_opset = true;
            }
            (14 | 20 | 25, Value::Delimited(message)) => is_message(file, message)?,
            _ => {}
        }
        Some(())
    })?;
    let has_version = match ir_version {
        Some(1 | 2) => true,
        Some(_) => has_opset,
        None => false,
    };
    Some(has_version && has_graph)
}

/// Returns whether a `GraphProto` has contents.
fn is_graph(file: &mut impl Bytes, graph: Range<u64>) -> Option<bool> {
    let mut holds = false;
    each_field(file, graph, |file, number, value| {
        let Value::Delimited(message) = value else {
            return Some(());
        };
        match number {
            1 => holds |= has(file, message, 4)?,
            5 => holds |= has(file, message, 2)?,
            11 | 12 | 15 => holds |= has(file, message, 1)?,
            13 | 14 => is_message(file, message)?,
            _ => {}
        }
        Some(())
    })?;
    Some(holds)
}

/// Returns whether a message has field `wanted`, neither empty nor 0.
fn has(file: &mut impl Bytes, message: Range<u64>, wanted: u32) -> Option<bool> {
    let mut found = false;
    each_field(file, message, |_, number, value| {
        found |= number == wanted
            && match value {
                Value::Varint(value) => value != 0,
                Value::Delimited(value) => !value.is_empty(),
                Value::Other => false,
            };
        Some(())
    })?;
    Some(found)
}

fn is_message(file: &mut impl Bytes, message: Range<u64>) -> Option<()> {
    each_field(file, message, |_, _, _| Some(()))
}

/// A field's value, as far as it matters here.
enum Value {
    Varint(u64),
    /// Its range in the file.
    Delimited(Range<u64>),
    /// 4 or 8 bytes, or a group.
    Other,
}

/// Calls `each` with every field of a message. Returns `None` if it is not a message, or `each`
/// returns `None`.
fn each_field<B: Bytes>(
    file: &mut B,
    mut rest: Range<u64>,
    mut each: impl FnMut(&mut B, u32, Value) -> Option<()>,
) -> Option<()> {
    while !rest.is_empty() {
        let (number, wire_type) = tag(file, &mut rest)?;
        let value = value(file, &mut rest, number, wire_type, MAX_DEPTH)?;
        each(file, number, value)?;
    }
    Some(())
}

/// The deepest nesting of groups that parsers read.
const MAX_DEPTH: u32 = 100;

/// Takes a field's value from the front of `rest`.
fn value(
    file: &mut impl Bytes,
    rest: &mut Range<u64>,
    number: u32,
    wire_type: u32,
    depth: u32,
) -> Option<Value> {
    Some(match wire_type {
        0 => Value::Varint(varint(file, rest)?),
        1 => {
            split_off(rest, 8)?;
            Value::Other
        }
        2 => {
            let len = varint(file, rest)?;
            Value::Delimited(split_off(rest, len)?)
        }
        3 => {
            group(file, rest, number, depth.checked_sub(1)?)?;
            Value::Other
        }
        5 => {
            split_off(rest, 4)?;
            Value::Other
        }
        _ => return None,
    })
}

/// Skips a group up to its end tag.
fn group(
    file: &mut impl Bytes,
    rest: &mut Range<u64>,
    group_number: u32,
    depth: u32,
) -> Option<()> {
    loop {
        let (number, wire_type) = tag(file, rest)?;
        if wire_type == 4 {
            return (number == group_number).then_some(());
        }
        value(file, rest, number, wire_type, depth)?;
    }
}

/// Takes a tag, as field number and wire type. It has up to 5 bytes, of which parsers keep 32 bits.
fn tag(file: &mut impl Bytes, rest: &mut Range<u64>) -> Option<(u32, u32)> {
    let start = rest.start;
    let tag = varint(file, rest)? as u32;
    let is_short = rest.start - start <= 5;
    (is_short && tag >= 8).then_some((tag >> 3, tag & 7))
}

/// Takes a varint of up to 10 bytes, of which parsers keep 64 bits.
fn varint(file: &mut impl Bytes, rest: &mut Range<u64>) -> Option<u64> {
    let mut value = 0;
    for i in 0..10 {
        let byte = file.at(split_off(rest, 1)?.start)?;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes the first `len` bytes.
fn split_off(rest: &mut Range<u64>, len: u64) -> Option<Range<u64>> {
    let end = rest.start.checked_add(len)?;
    if end > rest.end {
        return None;
    }
    Some(std::mem::replace(&mut rest.start, end)..end)
}
