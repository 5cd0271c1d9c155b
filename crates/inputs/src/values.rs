//! Images in memory, with values of any type.

use half::f16;

use crate::apply::{Images, ImagesMut, ValueType};

/// Values in memory.
pub(crate) enum Values {
    U8(Vec<u8>),
    U16(Vec<u16>),
    I8(Vec<i8>),
    F16(Vec<f16>),
    F32(Vec<f32>),
}

fn read<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|bytes| value(*bytes))
        .collect()
}

fn write<const N: usize, T: Copy>(to: &mut Vec<u8>, values: &[T], bytes: impl Fn(T) -> [u8; N]) {
    to.clear();
    to.resize(values.len() * N, 0);
    for (to, value) in to.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *to = bytes(*value);
    }
}

impl Values {
    pub(crate) fn of_bytes(of: ValueType, bytes: &[u8]) -> Values {
        match of {
            ValueType::U8 => Values::U8(bytes.to_vec()),
            ValueType::U16 => Values::U16(read(bytes, u16::from_le_bytes)),
            ValueType::I8 => Values::I8(read(bytes, i8::from_le_bytes)),
            ValueType::F16 => Values::F16(read(bytes, f16::from_le_bytes)),
            ValueType::F32 => Values::F32(read(bytes, f32::from_le_bytes)),
        }
    }

    pub(crate) fn zeros(of: ValueType, n: usize) -> Values {
        match of {
            ValueType::U8 => Values::U8(vec![0; n]),
            ValueType::U16 => Values::U16(vec![0; n]),
            ValueType::I8 => Values::I8(vec![0; n]),
            ValueType::F16 => Values::F16(vec![f16::ZERO; n]),
            ValueType::F32 => Values::F32(vec![0.0; n]),
        }
    }

    pub(crate) fn values(&self) -> Images<'_> {
        match self {
            Values::U8(values) => Images::U8(values),
            Values::U16(values) => Images::U16(values),
            Values::I8(values) => Images::I8(values),
            Values::F16(values) => Images::F16(values),
            Values::F32(values) => Images::F32(values),
        }
    }

    pub(crate) fn values_mut(&mut self) -> ImagesMut<'_> {
        match self {
            Values::U8(values) => ImagesMut::U8(values),
            Values::U16(values) => ImagesMut::U16(values),
            Values::I8(values) => ImagesMut::I8(values),
            Values::F16(values) => ImagesMut::F16(values),
            Values::F32(values) => ImagesMut::F32(values),
        }
    }

    pub(crate) fn to_bytes(&self, to: &mut Vec<u8>) {
        match self {
            Values::U8(values) => write(to, values, u8::to_le_bytes),
            Values::U16(values) => write(to, values, u16::to_le_bytes),
            Values::I8(values) => write(to, values, i8::to_le_bytes),
            Values::F16(values) => write(to, values, f16::to_le_bytes),
            Values::F32(values) => write(to, values, f32::to_le_bytes),
        }
    }
}
