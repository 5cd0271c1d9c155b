//! Converts elements of tensors to numbers, and back.

use std::ops::Range;

use half::{bf16, f16};
use onnxseal_onnx::element_bits;
use onnxseal_onnx::proto::tensor_proto::DataType;

/// The kind of numbers of an element type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Numbers {
    /// Floats: any number.
    Float,
    /// Whole numbers, from the first to the second, inclusive.
    Whole(f32, f32),
}

/// Returns the kind of numbers of a type's elements, or `None` for a type that this crate does not
/// read as numbers.
pub(crate) fn numbers(data_type: DataType) -> Option<Numbers> {
    use DataType::{Bfloat16, Double, Float, Float16};
    match data_type {
        Float | Float16 | Bfloat16 | Double => Some(Numbers::Float),
        _ => whole(data_type).map(|(low, high)| Numbers::Whole(low as f32, high as f32)),
    }
}

/// Returns the least and the largest number of a type of whole numbers.
fn whole(data_type: DataType) -> Option<(i128, i128)> {
    use DataType::{Bool, Int4, Int8, Int16, Int32, Int64, Uint4, Uint8, Uint16, Uint32, Uint64};
    let bits = element_bits(data_type)?;
    match data_type {
        Bool => Some((0, 1)),
        Int4 | Int8 | Int16 | Int32 | Int64 => Some((-1 << (bits - 1), (1 << (bits - 1)) - 1)),
        Uint4 | Uint8 | Uint16 | Uint32 | Uint64 => Some((0, (1 << bits) - 1)),
        _ => None,
    }
}

/// Decodes the numbers of a tensor. `bytes` has its elements contiguous and little-endian; elements
/// of 4 bits are two to a byte, the first in the low bits. Returns `None` for a type that this
/// crate does not read as numbers.
pub(crate) fn decode(data_type: DataType, bytes: &[u8], n_elements: usize) -> Option<Vec<f32>> {
    numbers(data_type)?;
    let bits = element_bits(data_type)?;
    let is_signed = whole(data_type).is_some_and(|(low, _)| low < 0);
    let number = |raw: u64| match data_type {
        DataType::Float => f32::from_bits(raw as u32),
        DataType::Double => f64::from_bits(raw) as f32,
        DataType::Float16 => f16::from_bits(raw as u16).to_f32(),
        DataType::Bfloat16 => bf16::from_bits(raw as u16).to_f32(),
        _ if is_signed => (((raw << (64 - bits)) as i64) >> (64 - bits)) as f32,
        _ => raw as f32,
    };
    let raw = |i| {
        let (range, shift) = place(i, bits);
        let raw = padded(bytes.get(range)?);
        Some(raw >> shift & u64::MAX >> (64 - bits))
    };
    Some((0..n_elements).map_while(raw).map(number).collect())
}

/// Writes the numbers of the elements in `range` to their places in `bytes`, rounded to the type's
/// nearest. Bytes outside the range stay.
pub(crate) fn encode(data_type: DataType, values: &[f32], range: Range<usize>, bytes: &mut [u8]) {
    let (low, high) = whole(data_type).unwrap_or_default();
    let raw = |value: f32| match data_type {
        DataType::Float => value.to_bits().into(),
        DataType::Double => f64::from(value).to_bits(),
        DataType::Float16 => f16::from_f32(value).to_bits().into(),
        DataType::Bfloat16 => bf16::from_f32(value).to_bits().into(),
        // NaN becomes 0.
        _ => (value.round() as i128).clamp(low, high) as u64,
    };
    let (Some(bits), Some(_)) = (element_bits(data_type), numbers(data_type)) else {
        return;
    };
    let mask = u64::MAX >> (64 - bits);
    for (i, value) in values.iter().enumerate().take(range.end).skip(range.start) {
        let (range, shift) = place(i, bits);
        let Some(bytes) = bytes.get_mut(range) else {
            return;
        };
        let others = padded(bytes) & !(mask << shift);
        let all = others | (raw(*value) & mask) << shift;
        bytes.copy_from_slice(&all.to_le_bytes()[..bytes.len()]);
    }
}

/// Returns the bytes that contain an element of `bits` bits, and the number of bits before it in
/// these.
fn place(i: usize, bits: u32) -> (Range<usize>, usize) {
    (byte_range(&(i..i + 1), bits), i * bits as usize % 8)
}

/// Reads up to 8 little-endian bytes.
fn padded(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}

/// Returns the bytes that contain the elements in `range`, of `bits` bits each.
pub(crate) fn byte_range(range: &Range<usize>, bits: u32) -> Range<usize> {
    let bits = bits as usize;
    range.start.saturating_mul(bits) / 8..range.end.saturating_mul(bits).div_ceil(8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TYPES: [DataType; 14] = [
        DataType::Float,
        DataType::Float16,
        DataType::Bfloat16,
        DataType::Double,
        DataType::Int8,
        DataType::Uint8,
        DataType::Int4,
        DataType::Uint4,
        DataType::Int16,
        DataType::Uint16,
        DataType::Int32,
        DataType::Int64,
        DataType::Uint32,
        DataType::Uint64,
    ];

    #[test]
    fn every_type_comes_back() {
        for data_type in TYPES {
            let values = match numbers(data_type).unwrap() {
                Numbers::Float => vec![0.0, 1.5, -2.0, 0.125, 96.0],
                Numbers::Whole(low, _) if low < 0.0 => vec![0.0, 1.0, -2.0, 7.0, -8.0],
                Numbers::Whole(..) => vec![0.0, 1.0, 2.0, 7.0, 15.0],
            };
            let bits = onnxseal_onnx::element_bits(data_type).unwrap() as usize;
            let mut bytes = vec![0xFF; (5 * bits).div_ceil(8)];
            encode(data_type, &values, 0..5, &mut bytes);
            assert_eq!(
                decode(data_type, &bytes, 5).unwrap(),
                values,
                "{data_type:?}"
            );
            // Only a part.
            let before = bytes.clone();
            encode(data_type, &[9.0, 1.0, 3.0, 9.0, 9.0], 1..3, &mut bytes);
            let got = decode(data_type, &bytes, 5).unwrap();
            assert_eq!(
                got,
                [values[0], 1.0, 3.0, values[3], values[4]],
                "{data_type:?}"
            );
            let range = byte_range(&(1..3), bits as u32);
            for i in (0..bytes.len()).filter(|i| !range.contains(i)) {
                assert_eq!(bytes[i], before[i], "{data_type:?}");
            }
        }
    }

    #[test]
    fn numbers_that_a_type_does_not_have_become_the_nearest() {
        let mut bytes = [0; 4];
        encode(
            DataType::Int8,
            &[300.0, -300.0, 1.4, f32::NAN],
            0..4,
            &mut bytes,
        );
        assert_eq!(bytes, [127, 0x80, 1, 0]);
        encode(DataType::Uint4, &[99.0, -1.0, 2.6], 0..3, &mut bytes);
        assert_eq!(bytes[..2], [0x0F, 0x83]);
        assert_eq!(decode(DataType::Int4, &[0x8F], 2).unwrap(), [-1.0, -8.0]);
        assert_eq!(decode(DataType::Float8e4m3fn, &[0x8F], 1), None);
    }
}
