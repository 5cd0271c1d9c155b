//! The types of pixels.

use std::fmt;

use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// A value of a pixel.
pub(crate) trait Value: Copy + Default + Send + Sync {
    const IS_FLOAT: bool;

    /// Subtracts each value from `sum`. Integers use a sum of their own, that of their least and
    /// their greatest value.
    fn negate(from: &[Self], to: &mut [Self], sum: f64);

    fn to_f64(self) -> f64;

    /// Returns the nearest value.
    fn from_f64(value: f64) -> Self;
}

macro_rules! integer {
    ($type:ty) => {
        impl Value for $type {
            const IS_FLOAT: bool = false;

            fn negate(from: &[Self], to: &mut [Self], _sum: f64) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = !from);
            }

            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            fn from_f64(value: f64) -> Self {
                value as $type
            }
        }
    };
}

integer!(u8);
integer!(u16);
integer!(i8);

impl Value for f32 {
    const IS_FLOAT: bool = true;

    fn negate(from: &[Self], to: &mut [Self], sum: f64) {
        let negated = |value: &f32| (sum - f64::from(*value)) as f32;
        to.iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to = negated(from));
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Value for f16 {
    const IS_FLOAT: bool = true;

    fn negate(from: &[Self], to: &mut [Self], sum: f64) {
        // A sum of two halves, rounded to a single and then to a half, equals the sum rounded once.
        if f16::from_f64(sum).to_f64() == sum {
            let sum = sum as f32;
            let mut wide = [0.0; 64];
            for (to, from) in to.chunks_mut(64).zip(from.chunks(64)) {
                let wide = &mut wide[..from.len()];
                from.convert_to_f32_slice(wide);
                wide.iter_mut().for_each(|value| *value = sum - *value);
                to.convert_from_f32_slice(wide);
            }
            return;
        }
        for (to, from) in to.iter_mut().zip(from) {
            *to = Value::from_f64(sum - from.to_f64());
        }
    }

    fn to_f64(self) -> f64 {
        f16::to_f64(self)
    }

    fn from_f64(value: f64) -> Self {
        // half's `from_f64` rounds twice on processors with half floats: to a single first.
        f16::from_f64_const(value)
    }
}

macro_rules! types {
    ($($variant:ident $type:ident),*) => {
        /// The type of an array's values.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ValueType {
            $($variant,)*
        }

        impl ValueType {
            pub const ALL: [ValueType; 5] = [$(ValueType::$variant),*];

            pub(crate) fn is_float(self) -> bool {
                match self {
                    $(ValueType::$variant => <$type as Value>::IS_FLOAT,)*
                }
            }

            /// Returns the bytes of a value.
            pub fn len_bytes(self) -> usize {
                match self {
                    $(ValueType::$variant => size_of::<$type>(),)*
                }
            }
        }

        impl fmt::Display for ValueType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(ValueType::$variant => stringify!($type),)*
                })
            }
        }

        /// Images to read: values of one type.
        #[derive(Clone, Copy, Debug)]
        pub enum Images<'i> {
            $($variant(&'i [$type]),)*
        }

        /// Images to write: values of one type.
        #[derive(Debug)]
        pub enum ImagesMut<'i> {
            $($variant(&'i mut [$type]),)*
        }

        types!(@of Images, $($variant)*);
        types!(@of ImagesMut, $($variant)*);

        $(
            impl<'i> From<&'i [$type]> for Images<'i> {
                fn from(values: &'i [$type]) -> Self {
                    Images::$variant(values)
                }
            }

            impl<'i> From<&'i mut [$type]> for ImagesMut<'i> {
                fn from(values: &'i mut [$type]) -> Self {
                    ImagesMut::$variant(values)
                }
            }
        )*
    };
    (@of $images:ident, $($variant:ident)*) => {
        impl $images<'_> {
            pub fn value_type(&self) -> ValueType {
                match self {
                    $($images::$variant(_) => ValueType::$variant,)*
                }
            }

            #[allow(clippy::len_without_is_empty)]
            pub fn len(&self) -> usize {
                match self {
                    $($images::$variant(values) => values.len(),)*
                }
            }
        }
    };
}

types!(U8 u8, U16 u16, I8 i8, F16 f16, F32 f32);
