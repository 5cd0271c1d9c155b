//! Checks that a tensor has as many elements as its shape and type say, and finds their place.

use super::runs::Runs;
use crate::data_type::element_bits;
use crate::error::{Error, Fault};
use crate::model::{FileId, Payload, PayloadField, Span, Unpatchable};
use crate::proto::tensor_proto::DataType;
use crate::wire::{Field, Value};

/// The most elements, and the most bytes, of a tensor.
pub(super) const MAX_SIZE: u64 = 1 << 60;

/// The words for a tensor that has more.
pub(super) const TOO_LARGE: &str = "expected at most 2^60 elements and bytes, found more";

/// The most bytes of a varint.
const MAX_VARINT_BYTES: u64 = 10;

/// Elements coded as varints.
#[derive(Clone, Copy, Default)]
pub(super) struct Coded {
    /// Bytes of packed fields.
    pub(super) packed_bytes: u64,
    /// Fields of one element.
    pub(super) n_unpacked: u64,
}

impl Coded {
    /// Takes in one more field. Returns whether it has elements.
    pub(super) fn add(&mut self, field: &Field<'_>) -> Result<bool, Error> {
        match field.value {
            Value::Varint(_) => self.n_unpacked += 1,
            Value::Delimited(packed) if packed.span().len == 0 => return Ok(false),
            Value::Delimited(packed) => self.packed_bytes += packed.span().len,
            _ => return Err(field.wire_type("a varint or a length-delimited value")),
        }
        Ok(true)
    }
}

/// Elements in `raw_data`.
pub(super) fn raw(span: Span, data_type: DataType, n: u64) -> Result<Payload, Fault> {
    if n == 0 && span.len == 0 {
        return Ok(Payload::Empty);
    }
    let element_bits = element_bits(data_type).ok_or_else(|| misplaced(data_type))?;
    let expected = n_bytes(n, element_bits)?;
    if span.len != expected {
        return Err(length(expected, span.len));
    }
    Ok(Payload::Dense {
        file: FileId::MODEL,
        span,
        field: PayloadField::RawData,
        element_bits,
    })
}

/// Elements in `float_data` or `double_data`; a complex element takes two of them.
pub(super) fn fixed(
    runs: Runs,
    data_type: DataType,
    n: u64,
    field: PayloadField,
) -> Result<Payload, Fault> {
    let (width, parts) = match (field, data_type) {
        (PayloadField::FloatData, DataType::Float) => (4, 1),
        (PayloadField::FloatData, DataType::Complex64) => (4, 2),
        (PayloadField::DoubleData, DataType::Double) => (8, 1),
        (PayloadField::DoubleData, DataType::Complex128) => (8, 2),
        _ => return Err(misplaced(data_type)),
    };
    let element_bits = 8 * width * parts;
    let expected = n_bytes(n, element_bits)?;
    let found = runs.n.saturating_mul(u64::from(width));
    if found != expected {
        return Err(length(expected, found));
    }
    let elements = Runs { n, ..runs };
    Ok(match elements.payload(field, element_bits) {
        Payload::Strided { .. } if parts > 1 => Payload::Unpatchable(Unpatchable::Fragmented),
        payload => payload,
    })
}

/// Elements coded as varints, which are not read, so that only their approximate number is checked.
pub(super) fn coded(
    coded: Coded,
    data_type: DataType,
    n: u64,
    field: Unpatchable,
) -> Result<Payload, Fault> {
    let bits = element_bits(data_type);
    let fits = match field {
        Unpatchable::Int32Data => {
            let is_other = matches!(data_type, DataType::Float | DataType::Uint32);
            !is_other && bits.is_some_and(|bits| bits <= 32)
        }
        Unpatchable::Int64Data => data_type == DataType::Int64,
        Unpatchable::Uint64Data => matches!(data_type, DataType::Uint32 | DataType::Uint64),
        _ => false,
    };
    if !fits {
        return Err(misplaced(data_type));
    }
    let (fewest, most) = match bits {
        // Several elements per varint; some writers put one in each.
        Some(bits @ (2 | 4)) => (n_bytes(n, bits)?, n),
        _ => (n, n),
    };
    let Coded {
        packed_bytes,
        n_unpacked,
    } = coded;
    let at_most = packed_bytes.saturating_add(n_unpacked);
    let at_least = packed_bytes
        .div_ceil(MAX_VARINT_BYTES)
        .saturating_add(n_unpacked);
    if at_most < fewest || at_least > most {
        let expected = format_args!("the bytes of {n} varints");
        return Err(Fault::expected(expected, format_args!("{at_most} bytes")));
    }
    Ok(unpatchable(n, field))
}

/// Elements in `string_data`, `found` of them.
pub(super) fn strings(found: u64, data_type: DataType, n: u64) -> Result<Payload, Fault> {
    if data_type != DataType::String {
        return Err(misplaced(data_type));
    }
    if found != n {
        return Err(count(n, found));
    }
    Ok(unpatchable(n, Unpatchable::Strings))
}

fn unpatchable(n: u64, why: Unpatchable) -> Payload {
    match n {
        0 => Payload::Empty,
        _ => Payload::Unpatchable(why),
    }
}

pub(super) fn misplaced(data_type: DataType) -> Fault {
    let expected = format_args!("elements of {} elsewhere", data_type.as_str_name());
    Fault::expected(expected, "them in this field")
}

pub(super) fn length(expected: u64, found: u64) -> Fault {
    Fault::expected(format_args!("{expected} bytes"), found)
}

pub(super) fn count(expected: u64, found: u64) -> Fault {
    Fault::expected(format_args!("{expected} elements"), found)
}

pub(super) fn n_bytes(n_elements: u64, element_bits: u32) -> Result<u64, Fault> {
    let bytes = (u128::from(n_elements) * u128::from(element_bits)).div_ceil(8);
    u64::try_from(bytes)
        .ok()
        .filter(|&bytes| bytes <= MAX_SIZE)
        .ok_or(TOO_LARGE.into())
}
