//! Protobuf by hand, for what no well-behaved writer makes.

/// A varint, minimal.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A length-delimited field: tag, length, bytes.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend_from_slice(bytes);
    out
}

pub fn varint_field(number: u32, value: u64) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3);
    out.extend(varint(value));
    out
}

/// A repeated `float` field as proto2 writers have it: a tag before every element.
pub fn unpacked_floats(number: u32, values: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        out.extend(varint(u64::from(number) << 3 | 5));
        out.extend(value.to_le_bytes());
    }
    out
}

/// A repeated `double` field as proto2 writers have it: a tag before every element.
pub fn unpacked_doubles(number: u32, values: &[f64]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        out.extend(varint(u64::from(number) << 3 | 1));
        out.extend(value.to_le_bytes());
    }
    out
}

/// A model of one graph, whose initializers are the given encoded `TensorProto`s.
pub fn model_of_tensors(tensors: &[Vec<u8>]) -> Vec<u8> {
    let graph: Vec<u8> = tensors.iter().flat_map(|tensor| field(5, tensor)).collect();
    field(7, &graph)
}

/// A model of one graph, in which a node's attribute holds a graph, and so on `depth` times.
pub fn nested_graphs(depth: usize) -> Vec<u8> {
    // From the inside out, backwards, so that no level is copied again.
    let mut reversed = Vec::new();
    let mut wrap = |number: u32| {
        let len = reversed.len() as u64;
        reversed.extend(varint(len).iter().rev());
        reversed.extend(varint(u64::from(number) << 3 | 2).iter().rev());
    };
    for _ in 0..depth {
        wrap(6); // AttributeProto.g
        wrap(5); // NodeProto.attribute
        wrap(1); // GraphProto.node
    }
    wrap(7); // ModelProto.graph
    reversed.reverse();
    reversed
}

/// The spans `[start, end)` of a message's outermost fields with their numbers, as far as they can
/// be read.
pub fn fields(bytes: &[u8]) -> Vec<(u32, std::ops::Range<usize>)> {
    let mut fields = Vec::new();
    let mut at = 0;
    while let Some((tag, value)) = read_varint(bytes, at) {
        let end = match tag & 7 {
            0 => read_varint(bytes, value).map(|(_, end)| end),
            1 => Some(value + 8),
            2 => read_varint(bytes, value).map(|(len, start)| start + len as usize),
            5 => Some(value + 4),
            _ => None,
        };
        let Some(end) = end.filter(|&end| end <= bytes.len()) else {
            break;
        };
        fields.push(((tag >> 3) as u32, at..end));
        at = end;
    }
    fields
}

fn read_varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for i in 0..10 {
        let byte = bytes.get(at + i)?;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, at + i + 1));
        }
    }
    None
}
