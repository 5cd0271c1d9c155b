//! Images as bytes of files: little-endian values.

use std::sync::Mutex;

use half::f16;
use onnxseal_store::parallel::lock;

use crate::apply::{Cipher, Images, ImagesMut, Scale, ValueType};
use crate::error::Result;

/// Makes bytes of images keyed ones, or plain ones again.
pub(super) struct Transformer<'c> {
    pub(super) cipher: &'c Cipher,
    pub(super) decrypt: bool,
    pub(super) scale: Scale,
    pub(super) from: ValueType,
    pub(super) to: ValueType,
    pub(super) floats: &'c Floats,
}

/// The lowest and the highest of all floats that were made keyed ones; infinite and reversed before there are any.
pub(super) struct Floats(Mutex<(f64, f64)>);

impl Default for Floats {
    fn default() -> Floats {
        Floats(Mutex::new((f64::INFINITY, f64::NEG_INFINITY)))
    }
}

impl Floats {
    /// The two; absent where there were no floats.
    pub(super) fn ends(&self) -> Option<(f64, f64)> {
        let (low, high) = *lock(&self.0);
        (low <= high).then_some((low, high))
    }

    fn see(&self, values: &Values) {
        // What is no number is passed over.
        let wider = |(low, high): (f32, f32), x: f32| (low.min(x), high.max(x));
        let none = (f32::INFINITY, f32::NEG_INFINITY);
        let (low, high) = match values {
            Values::F16(values) => values.iter().map(|x| x.to_f32()).fold(none, wider),
            Values::F32(values) => values.iter().copied().fold(none, wider),
            _ => return,
        };
        let mut ends = lock(&self.0);
        *ends = (ends.0.min(f64::from(low)), ends.1.max(f64::from(high)));
    }
}

/// Values in memory.
enum Values {
    U8(Vec<u8>),
    U16(Vec<u16>),
    I8(Vec<i8>),
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Transformer<'_> {
    /// Transforms all images of `bytes`, which get another length where values do.
    pub(super) fn run(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let Transformer { cipher, scale, .. } = *self;
        if (self.from, self.to) == (ValueType::U8, ValueType::U8) {
            return match self.decrypt {
                false => cipher.apply_in_place(&mut bytes[..], scale),
                true => cipher.invert_in_place(&mut bytes[..], scale),
            };
        }
        let mut from = Values::of_bytes(self.from, bytes);
        if !self.decrypt {
            self.floats.see(&from);
        }
        if self.from == self.to {
            match self.decrypt {
                false => cipher.apply_in_place(from.values_mut(), scale)?,
                true => cipher.invert_in_place(from.values_mut(), scale)?,
            }
            from.to_bytes(bytes);
            return Ok(());
        }
        let mut to = Values::zeros(self.to, bytes.len() / self.from.len_bytes());
        match self.decrypt {
            false => cipher.apply(from.values(), to.values_mut(), scale)?,
            true => cipher.invert(from.values(), to.values_mut(), scale)?,
        }
        to.to_bytes(bytes);
        Ok(())
    }
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
    fn of_bytes(of: ValueType, bytes: &[u8]) -> Values {
        match of {
            ValueType::U8 => Values::U8(bytes.to_vec()),
            ValueType::U16 => Values::U16(read(bytes, u16::from_le_bytes)),
            ValueType::I8 => Values::I8(read(bytes, i8::from_le_bytes)),
            ValueType::F16 => Values::F16(read(bytes, f16::from_le_bytes)),
            ValueType::F32 => Values::F32(read(bytes, f32::from_le_bytes)),
        }
    }

    fn zeros(of: ValueType, n: usize) -> Values {
        match of {
            ValueType::U8 => Values::U8(vec![0; n]),
            ValueType::U16 => Values::U16(vec![0; n]),
            ValueType::I8 => Values::I8(vec![0; n]),
            ValueType::F16 => Values::F16(vec![f16::ZERO; n]),
            ValueType::F32 => Values::F32(vec![0.0; n]),
        }
    }

    fn values(&self) -> Images<'_> {
        match self {
            Values::U8(values) => Images::U8(values),
            Values::U16(values) => Images::U16(values),
            Values::I8(values) => Images::I8(values),
            Values::F16(values) => Images::F16(values),
            Values::F32(values) => Images::F32(values),
        }
    }

    fn values_mut(&mut self) -> ImagesMut<'_> {
        match self {
            Values::U8(values) => ImagesMut::U8(values),
            Values::U16(values) => ImagesMut::U16(values),
            Values::I8(values) => ImagesMut::I8(values),
            Values::F16(values) => ImagesMut::F16(values),
            Values::F32(values) => ImagesMut::F32(values),
        }
    }

    fn to_bytes(&self, to: &mut Vec<u8>) {
        match self {
            Values::U8(values) => write(to, values, u8::to_le_bytes),
            Values::U16(values) => write(to, values, u16::to_le_bytes),
            Values::I8(values) => write(to, values, i8::to_le_bytes),
            Values::F16(values) => write(to, values, f16::to_le_bytes),
            Values::F32(values) => write(to, values, f32::to_le_bytes),
        }
    }
}
