//! Reads and writes the elements of one tensor as numbers.

use half::{bf16, f16};
use onnxseal_onnx::proto::tensor_proto::DataType;

/// Elements, little-endian and contiguous.
#[derive(Clone)]
pub struct Elements {
    data_type: DataType,
    raw: Vec<u8>,
}

/// Returns the bytes of an element, or `None` for an unsupported type.
pub fn width(data_type: DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Int8 | DataType::Uint8 | DataType::Bool => 1,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => 2,
        DataType::Int32 | DataType::Uint32 | DataType::Float => 4,
        DataType::Int64 | DataType::Double => 8,
        _ => return None,
    })
}

/// Returns whether elements of the type are floats of at least 16 bits.
pub fn is_float(data_type: DataType) -> bool {
    matches!(
        data_type,
        DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double
    )
}

/// Returns the least and the greatest value of an integer type.
pub fn bounds(data_type: DataType) -> Option<(i64, i64)> {
    Some(match data_type {
        DataType::Int8 => (-128, 127),
        DataType::Uint8 => (0, 255),
        DataType::Int16 => (-32768, 32767),
        DataType::Uint16 => (0, 65535),
        DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => return None,
    })
}

impl Elements {
    pub fn new(data_type: DataType, raw: Vec<u8>) -> Elements {
        Elements { data_type, raw }
    }

    pub fn zeros(data_type: DataType, n: usize) -> Option<Elements> {
        let raw = vec![0; n.checked_mul(width(data_type)?)?];
        Some(Elements { data_type, raw })
    }

    pub fn len(&self) -> usize {
        self.raw.len() / width(self.data_type).unwrap_or(1)
    }

    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    fn bytes<const N: usize>(&self, i: usize) -> [u8; N] {
        let bytes = self.raw.get(i * N..).and_then(|rest| rest.first_chunk());
        bytes.copied().unwrap_or([0; N])
    }

    /// Returns an element, or zero past the end.
    pub fn get(&self, i: usize) -> f64 {
        match self.data_type {
            DataType::Float => f64::from(f32::from_le_bytes(self.bytes(i))),
            DataType::Double => f64::from_le_bytes(self.bytes(i)),
            DataType::Float16 => f16::from_le_bytes(self.bytes(i)).to_f64(),
            DataType::Bfloat16 => bf16::from_le_bytes(self.bytes(i)).to_f64(),
            _ => self.int(i) as f64,
        }
    }

    /// Returns an element of an integer type.
    pub fn int(&self, i: usize) -> i64 {
        match self.data_type {
            DataType::Int8 => i64::from(i8::from_le_bytes(self.bytes(i))),
            DataType::Uint8 | DataType::Bool => i64::from(u8::from_le_bytes(self.bytes(i))),
            DataType::Int16 => i64::from(i16::from_le_bytes(self.bytes(i))),
            DataType::Uint16 => i64::from(u16::from_le_bytes(self.bytes(i))),
            DataType::Int32 => i64::from(i32::from_le_bytes(self.bytes(i))),
            DataType::Uint32 => i64::from(u32::from_le_bytes(self.bytes(i))),
            DataType::Int64 => i64::from_le_bytes(self.bytes(i)),
            _ => 0,
        }
    }

    /// Sets an element to a number, rounded once. Returns `false` if the type lacks such a number.
    #[must_use]
    pub fn put(&mut self, i: usize, value: f64) -> bool {
        match self.data_type {
            DataType::Float => {
                let value = value as f32;
                self.write(i, value.is_finite(), &value.to_le_bytes())
            }
            DataType::Double => self.write(i, value.is_finite(), &value.to_le_bytes()),
            DataType::Float16 => {
                let value = f16::from_f64(value);
                self.write(i, value.is_finite(), &value.to_le_bytes())
            }
            DataType::Bfloat16 => {
                let value = bf16::from_f64(value);
                self.write(i, value.is_finite(), &value.to_le_bytes())
            }
            of => {
                let (is_whole, value) = (value.fract() == 0.0, value as i64);
                let fits = bounds(of).is_some_and(|(low, high)| (low..=high).contains(&value));
                let width = width(of).unwrap_or(1);
                self.write(i, is_whole && fits, &value.to_le_bytes()[..width])
            }
        }
    }

    fn write(&mut self, i: usize, fits: bool, bytes: &[u8]) -> bool {
        let place = self.raw.get_mut(i * bytes.len()..(i + 1) * bytes.len());
        let place = place.filter(|_| fits);
        place.map(|place| place.copy_from_slice(bytes)).is_some()
    }
}
