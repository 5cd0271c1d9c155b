//! Reads what the map of a model leaves out: settings of nodes, types of inputs, elements coded as
//! varints.
//!
//! Each is read on request, and takes at most eight times its bytes in the file as memory.

use crate::data_type::element_bits;
use crate::edit::main_graph;
use crate::error::{Error, Fault};
use crate::model::{Node, Payload, Tensor, Unpatchable};
use crate::proto::tensor_proto::DataType;
use crate::schema;
use crate::wire::{Field, Message, Value};

/// An attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute<'a> {
    /// `AttributeProto.name`.
    pub name: &'a str,
    /// Its value.
    pub value: Setting<'a>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting<'a> {
    /// `f`.
    Float(f32),
    /// `i`.
    Int(i64),
    /// `s`.
    String(&'a [u8]),
    /// `ints`.
    Ints(Vec<i64>),
    /// Any other, or more than one.
    Other,
}

/// The name and type of a graph's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputType<'a> {
    /// `ValueInfoProto.name`.
    pub name: &'a str,
    /// Element type, if the file has one.
    pub data_type: Option<DataType>,
    /// Shape, if the file has one; dimensions that are not fixed are `None`.
    pub dims: Option<Vec<Option<u64>>>,
}

/// Returns the attributes of a node of the model file `bytes`.
pub fn attributes<'a>(bytes: &'a [u8], node: &Node<'_>) -> Result<Vec<Attribute<'a>>, Error> {
    let message = Message::within(bytes, node.message());
    let mut attributes = Vec::new();
    let mut fields = message.fields(schema::NODE);
    while let Some(field) = fields.next()? {
        if field.number == 5 {
            attributes.push(attribute(field.message()?)?);
        }
    }
    Ok(attributes)
}

fn attribute(message: Message<'_>) -> Result<Attribute<'_>, Error> {
    /// `AttributeProto.AttributeType`.
    const INT: u64 = 2;
    const INTS: u64 = 7;
    let mut name = "";
    let mut kind = 0;
    let mut values = Vec::new();
    let mut ints = Vec::new();
    let mut fields = message.fields(schema::ATTRIBUTE);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.string()?,
            2 => values.push(Setting::Float(f32_of(message, &field)?)),
            3 => values.push(Setting::Int(field.varint()? as i64)),
            4 => values.push(Setting::String(field.message()?.slice())),
            8 => varints(&field, &mut ints)?,
            20 => kind = field.varint()?,
            5..=7 | 9..=11 | 14 | 15 | 21..=23 => values.push(Setting::Other),
            _ => {}
        }
    }
    if !ints.is_empty() {
        values.push(Setting::Ints(ints));
    }
    let value = match (values.pop(), kind) {
        (Some(value), _) if values.is_empty() => value,
        (None, INT) => Setting::Int(0),
        (None, INTS) => Setting::Ints(Vec::new()),
        _ => Setting::Other,
    };
    Ok(Attribute { name, value })
}

/// Returns the elements of a tensor of the model file `bytes` as `raw_data` would hold them, if they
/// are coded as varints or scattered over several fields; `None` for elements that no `raw_data` can
/// hold, and for attributes.
pub fn raw_elements(bytes: &[u8], tensor: &Tensor<'_>) -> Result<Option<Vec<u8>>, Error> {
    let (Payload::Unpatchable(why), Some(bits)) = (&tensor.payload, element_bits(tensor.data_type))
    else {
        return Ok(None);
    };
    // Fields of an attribute have the same numbers as those of a tensor.
    if tensor.path.ends_with(".floats") {
        return Ok(None);
    }
    let (mut coded, mut raw) = (Vec::new(), Vec::new());
    let mut fields = Message::within(bytes, tensor.message()).fields(schema::TENSOR);
    while let Some(field) = fields.next()? {
        match (field.number, why) {
            (5, Unpatchable::Int32Data)
            | (7, Unpatchable::Int64Data)
            | (11, Unpatchable::Uint64Data) => varints(&field, &mut coded)?,
            (4 | 10, Unpatchable::Fragmented) => raw.extend_from_slice(fixed(bytes, &field)),
            _ => {}
        }
    }
    let expected = (u128::from(tensor.n_elements) * u128::from(bits)).div_ceil(8);
    let is_packed = coded.len() as u128 == expected;
    match bits {
        1..8 if is_packed => raw.extend(coded.iter().map(|byte| *byte as u8)),
        2 | 4 => {
            let each = 8 / bits as usize;
            let mask = (1u8 << bits) - 1;
            raw.extend(coded.chunks(each).map(|elements| {
                let parts = elements.iter().zip((0..8).step_by(bits as usize));
                parts.fold(0, |byte, (element, shift)| {
                    byte | (*element as u8 & mask) << shift
                })
            }));
        }
        8.. => {
            let width = bits as usize / 8;
            let low = |element: &i64| element.to_le_bytes().into_iter().take(width);
            raw.extend(coded.iter().flat_map(low));
        }
        _ => {}
    }
    Ok((raw.len() as u128 == expected).then_some(raw))
}

/// Returns the bytes of elements of fixed width in a field.
fn fixed<'a>(bytes: &'a [u8], field: &Field<'_>) -> &'a [u8] {
    let span = match field.value {
        Value::Fixed32(start) => start..start.saturating_add(4),
        Value::Fixed64(start) => start..start.saturating_add(8),
        Value::Delimited(packed) => packed.span().start..packed.span().end(),
        Value::Varint(_) => 0..0,
    };
    (bytes.get(span.start as usize..span.end as usize)).unwrap_or_default()
}

/// Returns the types of the main graph's inputs in the model file `bytes`, in order.
pub fn input_types(bytes: &[u8]) -> Result<Vec<InputType<'_>>, Error> {
    let mut types = Vec::new();
    let Some(graph) = main_graph(bytes)? else {
        return Ok(types);
    };
    let mut fields = graph.fields(schema::GRAPH);
    while let Some(field) = fields.next()? {
        if field.number == 11 {
            types.push(input_type(field.message()?)?);
        }
    }
    Ok(types)
}

fn input_type(message: Message<'_>) -> Result<InputType<'_>, Error> {
    let mut input = InputType {
        name: "",
        data_type: None,
        dims: None,
    };
    let mut fields = message.fields(schema::VALUE_INFO);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => input.name = field.string()?,
            2 => {
                let mut fields = field.message()?.fields(schema::TYPE);
                while let Some(field) = fields.next()? {
                    if field.number == 1 {
                        tensor_type(field.message()?, &mut input)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(input)
}

fn tensor_type(message: Message<'_>, input: &mut InputType<'_>) -> Result<(), Error> {
    let mut fields = message.fields(schema::TENSOR_TYPE);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => input.data_type = DataType::try_from(field.int32()?).ok(),
            2 => {
                let mut dims = Vec::new();
                let mut fields = field.message()?.fields(schema::SHAPE);
                while let Some(field) = fields.next()? {
                    if field.number == 1 {
                        dims.push(dimension(field.message()?)?);
                    }
                }
                input.dims = Some(dims);
            }
            _ => {}
        }
    }
    Ok(())
}

fn dimension(message: Message<'_>) -> Result<Option<u64>, Error> {
    let mut dim = None;
    let mut fields = message.fields(schema::DIMENSION);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            // Some writers put -1 or 0 for a dimension that is not fixed.
            dim = Some(field.varint()?).filter(|&dim| dim > 0 && dim <= i64::MAX as u64);
        }
    }
    Ok(dim)
}

/// Appends the varints of a repeated field, packed or not.
fn varints(field: &Field<'_>, out: &mut Vec<i64>) -> Result<(), Error> {
    let Value::Delimited(packed) = field.value else {
        out.push(field.varint()? as i64);
        return Ok(());
    };
    let mut varints = packed.varints();
    while let Some(value) = varints.next().map_err(|error| field.name(error))? {
        out.push(value as i64);
    }
    Ok(())
}

fn f32_of(message: Message<'_>, field: &Field<'_>) -> Result<f32, Error> {
    let Value::Fixed32(offset) = field.value else {
        return Err(field.wire_type("4 bytes"));
    };
    let at = offset.saturating_sub(message.offset()) as usize;
    match message.slice().get(at..at.saturating_add(4)) {
        Some(&[a, b, c, d]) => Ok(f32::from_le_bytes([a, b, c, d])),
        _ => Err(Error::malformed(offset, Fault::truncated(4, 0))),
    }
}
