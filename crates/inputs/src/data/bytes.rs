//! Images as bytes of files: little-endian values.

use std::sync::Mutex;

use onnxseal_store::parallel::lock;

use crate::apply::{Cipher, Scale, ValueType};
use crate::error::Result;
use crate::values::Values;

/// Transforms the bytes of images to keyed ones, or back.
pub(super) struct Transformer<'c> {
    pub(super) cipher: &'c Cipher,
    pub(super) decrypt: bool,
    pub(super) scale: Scale,
    pub(super) from: ValueType,
    pub(super) to: ValueType,
    pub(super) floats: &'c Floats,
}

/// The lowest and the highest of all transformed floats; infinite and reversed before there are
/// any.
pub(super) struct Floats(Mutex<(f64, f64)>);

impl Default for Floats {
    fn default() -> Floats {
        Floats(Mutex::new((f64::INFINITY, f64::NEG_INFINITY)))
    }
}

impl Floats {
    /// Returns the two, or `None` if there were no floats.
    pub(super) fn ends(&self) -> Option<(f64, f64)> {
        let (low, high) = *lock(&self.0);
        (low <= high).then_some((low, high))
    }

    fn see(&self, values: &Values) {
        // Skip NaN.
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

impl Transformer<'_> {
    /// Transforms all images of `bytes`, whose length changes with that of the values.
    pub(super) fn run(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let Transformer { cipher, scale, .. } = *self;
        if (self.from, self.to) == (ValueType::U8, ValueType::U8) {
            return if self.decrypt {
                cipher.invert_in_place(&mut bytes[..], scale)
            } else {
                cipher.apply_in_place(&mut bytes[..], scale)
            };
        }
        let mut from = Values::of_bytes(self.from, bytes);
        if !self.decrypt {
            self.floats.see(&from);
        }
        if self.from == self.to {
            if self.decrypt {
                cipher.invert_in_place(from.values_mut(), scale)?
            } else {
                cipher.apply_in_place(from.values_mut(), scale)?
            }
            from.to_bytes(bytes);
            return Ok(());
        }
        let mut to = Values::zeros(self.to, bytes.len() / self.from.len_bytes());
        if self.decrypt {
            cipher.invert(from.values(), to.values_mut(), scale)?
        } else {
            cipher.apply(from.values(), to.values_mut(), scale)?
        }
        to.to_bytes(bytes);
        Ok(())
    }
}
