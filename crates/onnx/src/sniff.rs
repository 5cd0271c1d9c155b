//! Tells models from other files by what is in them.

/// Whether a file's bytes are an ONNX model, whatever the file is called.
///
/// True for every file that ONNX Runtime loads as a protobuf model, unless there is nothing in its
/// graph, in whatever order and with whatever unknown fields it is written; and for little else. The
/// rule:
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
    is_model(bytes).unwrap_or(false)
}

/// The same; `None` where the bytes are no protobuf.
fn is_model(bytes: &[u8]) -> Option<bool> {
    let (mut ir_version, mut has_opset, mut has_graph) = (None, false, false);
    each_field(bytes, |number, value| {
        match (number, value) {
            (1, Value::Varint(value)) => ir_version = Some(value),
            (7, Value::Delimited(graph)) => has_graph |= is_graph(graph)?,
            (8, Value::Delimited(opset)) => {
                is_message(opset)?;
                has_opset = true;
            }
            (14 | 20 | 25, Value::Delimited(message)) => is_message(message)?,
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
fn is_graph(bytes: &[u8]) -> Option<bool> {
    let mut holds = false;
    each_field(bytes, |number, value| {
        let Value::Delimited(message) = value else {
            return Some(());
        };
        match number {
            1 => holds |= has(message, 4)?,
            5 => holds |= has(message, 2)?,
            11 | 12 | 15 => holds |= has(message, 1)?,
            13 | 14 => is_message(message)?,
            _ => {}
        }
        Some(())
    })?;
    Some(holds)
}

/// Whether a message has field `wanted`, which is not empty or 0.
fn has(bytes: &[u8], wanted: u32) -> Option<bool> {
    let mut found = false;
    each_field(bytes, |number, value| {
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

fn is_message(bytes: &[u8]) -> Option<()> {
    each_field(bytes, |_, _| Some(()))
}

/// A field's value, as far as it matters here.
enum Value<'a> {
    Varint(u64),
    Delimited(&'a [u8]),
    /// 4 or 8 bytes, or a group.
    Other,
}

/// Hands every field of a message to `each`; `None` where the bytes are none, or `each` says so.
fn each_field<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u32, Value<'a>) -> Option<()>,
) -> Option<()> {
    while !bytes.is_empty() {
        let (number, wire_type) = tag(&mut bytes)?;
        let value = value(&mut bytes, number, wire_type, MAX_DEPTH)?;
        each(number, value)?;
    }
    Some(())
}

/// Groups inside groups that parsers read.
const MAX_DEPTH: u32 = 100;

/// Takes a field's value from the front of `bytes`.
fn value<'a>(bytes: &mut &'a [u8], number: u32, wire_type: u32, depth: u32) -> Option<Value<'a>> {
    Some(match wire_type {
        0 => Value::Varint(varint(bytes)?),
        1 => {
            bytes.split_off(..8)?;
            Value::Other
        }
        2 => {
            let len = usize::try_from(varint(bytes)?).ok()?;
            Value::Delimited(bytes.split_off(..len)?)
        }
        3 => {
            group(bytes, number, depth.checked_sub(1)?)?;
            Value::Other
        }
        5 => {
            bytes.split_off(..4)?;
            Value::Other
        }
        _ => return None,
    })
}

/// Passes over a group up to its end tag.
fn group(bytes: &mut &[u8], group_number: u32, depth: u32) -> Option<()> {
    loop {
        let (number, wire_type) = tag(bytes)?;
        if wire_type == 4 {
            return (number == group_number).then_some(());
        }
        value(bytes, number, wire_type, depth)?;
    }
}

/// Takes a tag, as field number and wire type. It has up to 5 bytes, of which parsers keep 32 bits.
fn tag(bytes: &mut &[u8]) -> Option<(u32, u32)> {
    let before = bytes.len();
    let tag = varint(bytes)? as u32;
    let is_short = before.saturating_sub(bytes.len()) <= 5;
    (is_short && tag >= 8).then_some((tag >> 3, tag & 7))
}

/// Takes a varint of up to 10 bytes, of which parsers keep 64 bits.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for i in 0..10 {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
