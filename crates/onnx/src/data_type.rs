//! The width of an element.

use crate::proto::tensor_proto::DataType;

/// Returns the bits of an element in `raw_data`, or `None` if elements have no fixed width.
///
/// Source: `TensorProto.DataType` and `TensorProto.raw_data` of IR version 14.
pub fn element_bits(data_type: DataType) -> Option<u32> {
    Some(match data_type {
        DataType::Undefined | DataType::String => return None,
        DataType::Int2 | DataType::Uint2 => 2,
        DataType::Int4 | DataType::Uint4 | DataType::Float4e2m1 => 4,
        DataType::Float6e2m3 | DataType::Float6e3m2 => 6,
        DataType::Bool
        | DataType::Int8
        | DataType::Uint8
        | DataType::Float8e4m3fn
        | DataType::Float8e4m3fnuz
        | DataType::Float8e5m2
        | DataType::Float8e5m2fnuz
        | DataType::Float8e8m0 => 8,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => 16,
        DataType::Int32 | DataType::Uint32 | DataType::Float => 32,
        DataType::Int64 | DataType::Uint64 | DataType::Double | DataType::Complex64 => 64,
        DataType::Complex128 => 128,
    })
}
