//! Reads what the map of a model leaves out: settings of nodes, types of inputs, elements coded as
//! varints.
//!
//! Each is read on request, and takes at most eight times its bytes in the file as memory.

use crate::data_type::element_bits;
use crate::edit::main_graph;
use crate::error::Error;
use crate::model::{Node, Payload, Tensor, Unpatchable};
use crate::proto::tensor_proto::DataType;
use crate::schema::{
    attribute, dimension, graph, node, shape, tensor, tensor_type, type_proto, value_info,
};
use crate::wire::{Field, Message, Value};

#[derive(Clone, Debug, PartialEq)]
pub struct Attribute<'a> {
    pub name: &'a str,
    pub value: Setting<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Setting<'a> {
    Float(f32),
    Int(i64),
    String(&'a [u8]),
    Ints(Vec<i64>),
    /// Any other, or more than one.
    Other,
}

/// The name and type of a graph's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputType<'a> {
    pub name: &'a str,
    /// Element type, if the file has one.
    pub data_type: Option<DataType>,
    /// Shape, if the file has one; dimensions that are not fixed are `None`.
    pub dims: Option<Vec<Option<u64>>>,
}

pub fn attributes<'a>(bytes: &'a [u8], node: &Node<'_>) -> Result<Vec<Attribute<'a>>, Error> {
    let message = Message::within(bytes, node.message);
    let attributes = message.all(&node::SCHEMA, node::attribute);
    attributes.map(|message| attribute(message?)).collect()
}

fn attribute(message: Message<'_>) -> Result<Attribute<'_>, Error> {
    /// `AttributeProto.AttributeType`.
    const INT: u64 = 2;
    const INTS: u64 = 7;
    let mut name = "";
    let mut kind = 0;
    let mut values = Vec::new();
    let mut ints = Vec::new();
    for field in message.fields(&attribute::SCHEMA) {
        let field = field?;
        match field.number {
            attribute::name => name = field.string()?,
            attribute::f => values.push(Setting::Float(f32_of(&field)?)),
            attribute::i => values.push(Setting::Int(field.varint()? as i64)),
            attribute::s => values.push(Setting::String(field.message()?.slice())),
            attribute::ints => varints(&field, &mut ints)?,
            attribute::r#type => kind = field.varint()?,
            attribute::doc_string => {}
            _ if field.known().is_some() => values.push(Setting::Other),
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
    for field in Message::within(bytes, tensor.message).fields(&tensor::SCHEMA) {
        let field = field?;
        match (field.number, why, field.value) {
            (tensor::int32_data, Unpatchable::Int32Data, _)
            | (tensor::int64_data, Unpatchable::Int64Data, _)
            | (tensor::uint64_data, Unpatchable::Uint64Data, _) => varints(&field, &mut coded)?,
            (
                tensor::float_data | tensor::double_data,
                Unpatchable::Fragmented,
                Value::Fixed32(part) | Value::Fixed64(part) | Value::Delimited(part),
            ) => raw.extend_from_slice(part.slice()),
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

/// Returns the types of the main graph's inputs in the model file `bytes`, in order.
pub fn input_types(bytes: &[u8]) -> Result<Vec<InputType<'_>>, Error> {
    let Some(graph) = main_graph(bytes)? else {
        return Ok(Vec::new());
    };
    let inputs = graph.all(&graph::SCHEMA, graph::input);
    inputs.map(|message| input_type(message?)).collect()
}

fn input_type(message: Message<'_>) -> Result<InputType<'_>, Error> {
    let mut input = InputType {
        name: "",
        data_type: None,
        dims: None,
    };
    for field in message.fields(&value_info::SCHEMA) {
        let field = field?;
        match field.number {
            value_info::name => input.name = field.string()?,
            value_info::r#type => {
                for tensor in field
                    .message()?
                    .all(&type_proto::SCHEMA, type_proto::tensor_type)
                {
                    tensor_type(tensor?, &mut input)?;
                }
            }
            _ => {}
        }
    }
    Ok(input)
}

fn tensor_type(message: Message<'_>, input: &mut InputType<'_>) -> Result<(), Error> {
    for field in message.fields(&tensor_type::SCHEMA) {
        let field = field?;
        match field.number {
            tensor_type::elem_type => input.data_type = DataType::try_from(field.int32()?).ok(),
            tensor_type::shape => {
                let dims = field.message()?.all(&shape::SCHEMA, shape::dim);
                let dims: Result<_, Error> = dims.map(|message| dimension(message?)).collect();
                input.dims = Some(dims?);
            }
            _ => {}
        }
    }
    Ok(())
}

fn dimension(message: Message<'_>) -> Result<Option<u64>, Error> {
    let mut dim = None;
    for field in message.fields(&dimension::SCHEMA) {
        let field = field?;
        if field.number == dimension::dim_value {
            // Some writers put -1 or 0 for a dimension that is not fixed.
            dim = Some(field.varint()?).filter(|&dim| dim > 0 && dim <= i64::MAX as u64);
        }
    }
    Ok(dim)
}

/// Appends the varints of a repeated field, packed or not.
fn varints(field: &Field<'_>, out: &mut Vec<i64>) -> Result<(), Error> {
    field.varints(|value| {
        out.push(value as i64);
        Ok(())
    })
}

fn f32_of(field: &Field<'_>) -> Result<f32, Error> {
    let bytes = match field.value {
        Value::Fixed32(value) => value.slice().first_chunk(),
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| field.wire_type("4 bytes"))?;
    Ok(f32::from_le_bytes(*bytes))
}
