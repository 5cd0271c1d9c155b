//! Tells models from other files by what is in them.

use std::ops::Range;

/// Whether a file's bytes are an ONNX model, whatever the file is called.
///
/// True for every file that ONNX Runtime loads as a protobuf model, unless there is nothing in its
/// graph, in whatever order and with whatever unknown fields it is written; for what [`is_ort_format`];
/// and for little else. The rule of the former:
///
/// 1. The bytes up to the last one are protobuf fields, and so are the messages in `graph`,
///    `opset_import`, `metadata_props`, `training_info` and `functions`, and those in the graph's
///    `node`, `initializer`, `input`, `output`, `value_info`, `quantization_annotation` and
///    `sparse_initializer`. What lies deeper, or came after ONNX 1.15, is not looked at.
/// 2. `ir_version` is there, and `opset_import` unless `ir_version` is 1 or 2, which had none.
/// 3. `graph` has a node with an `op_type`, an initializer with a `data_type`, a sparse initializer
///    with values, or an input or output with a name.
///
/// Fields are read as parsers read them and not as [`crate::locate`] does, which is stricter: a
/// field of another wire type than the schema says is an unknown one, groups are passed over,
/// several `graph` fields are one graph, and varints may be longer than they need to be. So a file
/// can be a model here and be refused there, and one that is cut or damaged is often none here.
///
/// No weights are read: of a mapped file little more than the structure comes from the disk, and of
/// most files that are no models the first page.
pub fn sniff(bytes: &[u8]) -> bool {
    let mut whole = bytes;
    is_ort(&mut whole) || is_model(&mut whole, 0..bytes.len() as u64).unwrap_or(false)
}

/// Whether a file's bytes are a model in ONNX Runtime's own format (`.ort`), a flat buffer.
pub fn is_ort_format(bytes: &[u8]) -> bool {
    let mut whole = bytes;
    is_ort(&mut whole)
}

/// The same of a file of `len` bytes that is elsewhere: `fetch` fills a buffer with the bytes at an
/// offset. Offsets ascend, nothing is asked for twice, and what [`sniff`] does not look at is passed
/// over where it is longer than a fetch: of most files that are no models it takes one, of 64 KiB.
///
/// # Errors
/// The first of `fetch`.
pub fn sniff_by<E>(
    len: u64,
    fetch: impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<bool, E> {
    let mut fetched = Fetched {
        fetch,
        len,
        bytes: Vec::new(),
        start: 0,
        failed: None,
    };
    // Of what is shorter nothing beyond its end is asked for.
    let is_ort = len >= ORT_HEAD_BYTES && is_ort(&mut fetched);
    let is_model = is_ort || is_model(&mut fetched, 0..len).unwrap_or(false);
    match fetched.failed {
        Some(error) => Err(error),
        None => Ok(is_model),
    }
}

/// A file's bytes, asked for in ascending order.
trait Bytes {
    /// The byte at `offset`; `None` where there is none, or none can be had.
    fn at(&mut self, offset: u64) -> Option<u8>;
}

impl Bytes for &[u8] {
    fn at(&mut self, offset: u64) -> Option<u8> {
        self.get(offset as usize).copied()
    }
}

/// What was fetched last of a file.
struct Fetched<F, E> {
    fetch: F,
    /// Length of the file.
    len: u64,
    bytes: Vec<u8>,
    /// Offset of `bytes` in the file.
    start: u64,
    failed: Option<E>,
}

/// Bytes of a fetch after a gap; each that follows without one is twice as long.
const FIRST_BYTES: u64 = 64 << 10;
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
                (2 * len).clamp(FIRST_BYTES, MOST_BYTES)
            } else {
                FIRST_BYTES
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

/// As far as that tells ONNX Runtime's own format.
const ORT_HEAD_BYTES: u64 = 8;

/// The identifier of the format after the offset of the root table, which lies near the beginning. In
/// ONNX's format, of the length of a name would be what is zero here.
fn is_ort(file: &mut impl Bytes) -> bool {
    let head: Option<Vec<u8>> = (0..ORT_HEAD_BYTES).map(|offset| file.at(offset)).collect();
    matches!(head.as_deref(), Some([_, _, 0, 0, b'O', b'R', b'T', b'M']))
}

/// Whether it is a protobuf model; `None` where the bytes are no protobuf.
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

/// Whether a `GraphProto` has anything in it.
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

/// Whether a message has field `wanted`, which is not empty or 0.
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
    /// Where it lies.
    Delimited(Range<u64>),
    /// 4 or 8 bytes, or a group.
    Other,
}

/// Hands every field of a message to `each`; `None` where it is none, or `each` says so.
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

/// Groups inside groups that parsers read.
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

/// Passes over a group up to its end tag.
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
