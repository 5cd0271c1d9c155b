//! Converts elements of tensors to numbers, and back.

use std::ops::Range;

use half::{bf16, f16};
use onnxseal_onnx::proto::tensor_proto::DataType;

/// The kind of numbers of an element type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numbers {
    /// Floats: any number.
    Float,
    /// Whole numbers, from the first to the second, inclusive.
    Whole(f32, f32),
}

/// Returns the kind of numbers of a type's elements, or `None` for a type that this crate does not
/// read as numbers.
pub fn numbers(data_type: DataType) -> Option<Numbers> {
    use DataType as D;
    Some(match data_type {
        D::Float | D::Float16 | D::Bfloat16 | D::Double => Numbers::Float,
        D::Int4 => Numbers::Whole(-8.0, 7.0),
        D::Uint4 => Numbers::Whole(0.0, 15.0),
        D::Int8 => Numbers::Whole(-128.0, 127.0),
        D::Uint8 => Numbers::Whole(0.0, 255.0),
        D::Int16 => Numbers::Whole(-32768.0, 32767.0),
        D::Uint16 => Numbers::Whole(0.0, 65535.0),
        D::Int32 => Numbers::Whole(i32::MIN as f32, i32::MAX as f32),
        D::Int64 => Numbers::Whole(i64::MIN as f32, i64::MAX as f32),
        D::Uint32 => Numbers::Whole(0.0, u32::MAX as f32),
        D::Uint64 => Numbers::Whole(0.0, u64::MAX as f32),
        D::Bool => Numbers::Whole(0.0, 1.0),
        _ => return None,
    })
}

/// Decodes the numbers of a tensor. `bytes` has its elements contiguous and little-endian; elements
/// of 4 bits are two to a byte, the first in the low bits. Returns `None` for a type that this
/// crate does not read as numbers.
pub fn decode(data_type: DataType, bytes: &[u8], n_elements: usize) -> Option<Vec<f32>> {
    use DataType as D;
    macro_rules! of {
        ($n:literal, $read:expr) => {
            bytes
                .chunks_exact($n)
                .take(n_elements)
                .map(|b| $read(b.try_into().unwrap_or([0; $n])))
                .collect()
        };
    }
    Some(match data_type {
        D::Float => of!(4, f32::from_le_bytes),
        D::Double => of!(8, |b| f64::from_le_bytes(b) as f32),
        D::Float16 => of!(2, |b| f16::from_le_bytes(b).to_f32()),
        D::Bfloat16 => of!(2, |b| bf16::from_le_bytes(b).to_f32()),
        D::Int8 => of!(1, |b| f32::from(i8::from_le_bytes(b))),
        D::Uint8 | D::Bool => of!(1, |b: [u8; 1]| f32::from(b[0])),
        D::Int16 => of!(2, |b| f32::from(i16::from_le_bytes(b))),
        D::Uint16 => of!(2, |b| f32::from(u16::from_le_bytes(b))),
        D::Int32 => of!(4, |b| i32::from_le_bytes(b) as f32),
        D::Int64 => of!(8, |b| i64::from_le_bytes(b) as f32),
        D::Uint32 => of!(4, |b| u32::from_le_bytes(b) as f32),
        D::Uint64 => of!(8, |b| u64::from_le_bytes(b) as f32),
        D::Uint4 => nibbles(bytes, n_elements, f32::from),
        D::Int4 => nibbles(bytes, n_elements, |nibble| {
            f32::from((nibble << 4) as i8 >> 4)
        }),
        _ => return None,
    })
}

fn nibbles(bytes: &[u8], n_elements: usize, read: impl Fn(u8) -> f32) -> Vec<f32> {
    let both = bytes.iter().flat_map(|byte| [byte & 0xF, byte >> 4]);
    both.take(n_elements).map(read).collect()
}

/// Writes the numbers of the elements in `range` to their places in `bytes`, rounded to the type's
/// nearest.
///
/// Bytes outside the range stay. Elements of a type without numbers become bytes of 0.
pub fn encode(data_type: DataType, values: &[f32], range: Range<usize>, bytes: &mut [u8]) {
    use DataType as D;
    let range = range.start.min(values.len())..range.end.min(values.len());
    let first = range.start;
    let values = values.get(range).unwrap_or_default();
    macro_rules! to {
        ($n:literal, $write:expr) => {
            for (value, place) in values.iter().zip(bytes.chunks_exact_mut($n).skip(first)) {
                place.copy_from_slice(&$write(*value));
            }
        };
    }
    // `as` saturates, and turns NaN into 0.
    match data_type {
        D::Float => to!(4, f32::to_le_bytes),
        D::Double => to!(8, |v| f64::to_le_bytes(f64::from(v))),
        D::Float16 => to!(2, |v| f16::to_le_bytes(f16::from_f32(v))),
        D::Bfloat16 => to!(2, |v| bf16::to_le_bytes(bf16::from_f32(v))),
        D::Int8 => to!(1, |v: f32| i8::to_le_bytes(v.round() as i8)),
        D::Uint8 => to!(1, |v: f32| [v.round() as u8]),
        D::Bool => to!(1, |v: f32| [u8::from(v >= 0.5)]),
        D::Int16 => to!(2, |v: f32| i16::to_le_bytes(v.round() as i16)),
        D::Uint16 => to!(2, |v: f32| u16::to_le_bytes(v.round() as u16)),
        D::Int32 => to!(4, |v: f32| i32::to_le_bytes(v.round() as i32)),
        D::Int64 => to!(8, |v: f32| i64::to_le_bytes(v.round() as i64)),
        D::Uint32 => to!(4, |v: f32| u32::to_le_bytes(v.round() as u32)),
        D::Uint64 => to!(8, |v: f32| u64::to_le_bytes(v.round() as u64)),
        D::Int4 | D::Uint4 => {
            for (i, value) in values.iter().enumerate() {
                let nibble = match data_type {
                    D::Int4 => value.round().clamp(-8.0, 7.0) as i8 as u8 & 0xF,
                    _ => value.round().clamp(0.0, 15.0) as u8,
                };
                let at = first + i;
                if let Some(byte) = bytes.get_mut(at / 2) {
                    *byte = match at % 2 {
                        0 => *byte & 0xF0 | nibble,
                        _ => *byte & 0x0F | nibble << 4,
                    };
                }
            }
        }
        _ => {}
    }
}

/// Returns the bytes that contain the elements in `range`, of `bits` bits each.
pub fn byte_range(range: &Range<usize>, bits: u32) -> Range<usize> {
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
