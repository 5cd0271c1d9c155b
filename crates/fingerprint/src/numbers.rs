//! Elements as floats, in bulk.

use half::{bf16, f16};
use onnxseal_rewrite::{DataType, Elements};

/// Reads elements as floats.
pub fn floats(data_type: DataType, raw: &[u8]) -> Vec<f32> {
    match data_type {
        DataType::Float => each(raw, f32::from_le_bytes),
        DataType::Float16 => each(raw, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DataType::Bfloat16 => each(raw, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        DataType::Int8 => each(raw, |bytes| f32::from(i8::from_le_bytes(bytes))),
        DataType::Uint8 => each(raw, |[byte]| f32::from(byte)),
        _ => {
            let elements = Elements::new(data_type, raw.to_vec());
            let numbers = (0..elements.len()).map(|i| elements.get(i) as f32);
            numbers.collect()
        }
    }
}

fn each<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    raw.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
}

/// Reads elements of 4 bits, the low ones of a byte first.
pub fn nibbles(raw: &[u8], data_type: DataType) -> Vec<f32> {
    let signed = |nibble: u8| f32::from((nibble << 4) as i8 >> 4);
    let number = |nibble: u8| match data_type {
        DataType::Int4 => signed(nibble),
        _ => f32::from(nibble),
    };
    raw.iter()
        .flat_map(|byte| [number(byte & 15), number(byte >> 4)])
        .collect()
}
