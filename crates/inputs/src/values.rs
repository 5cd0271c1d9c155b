//! Images in memory, with values of any type.

use half::f16;

use crate::apply::{Images, ImagesMut, Value, ValueType};

macro_rules! values {
    ($($variant:ident $type:ty),*) => {
        pub(crate) enum Values {
            $($variant(Vec<$type>),)*
        }

        impl Values {
            /// Reads little-endian values.
            pub(crate) fn of_bytes(of: ValueType, bytes: &[u8]) -> Values {
                match of {
                    $(ValueType::$variant => {
                        let (values, _) = bytes.as_chunks();
                        let values = values.iter().map(|bytes| <$type>::from_le_bytes(*bytes));
                        Values::$variant(values.collect())
                    })*
                }
            }

            pub(crate) fn zeros(of: ValueType, n: usize) -> Values {
                match of {
                    $(ValueType::$variant => Values::$variant(vec![<$type>::default(); n]),)*
                }
            }

            /// Takes numbers that are values of the type, or are rounded to such.
            #[cfg(feature = "engine")]
            pub(crate) fn of_numbers(of: ValueType, numbers: impl Iterator<Item = f64>) -> Values {
                match of {
                    $(ValueType::$variant => {
                        Values::$variant(numbers.map(Value::from_f64).collect())
                    })*
                }
            }

            pub(crate) fn to_numbers(&self) -> Vec<f64> {
                match self {
                    $(Values::$variant(values) => values.iter().map(|x| x.to_f64()).collect(),)*
                }
            }

            pub(crate) fn values(&self) -> Images<'_> {
                match self {
                    $(Values::$variant(values) => Images::$variant(values),)*
                }
            }

            pub(crate) fn values_mut(&mut self) -> ImagesMut<'_> {
                match self {
                    $(Values::$variant(values) => ImagesMut::$variant(values),)*
                }
            }

            pub(crate) fn to_bytes(&self, to: &mut Vec<u8>) {
                match self {
                    $(Values::$variant(values) => {
                        to.resize(size_of_val(&values[..]), 0);
                        let (places, _) = to.as_chunks_mut();
                        for (place, value) in places.iter_mut().zip(values) {
                            *place = value.to_le_bytes();
                        }
                    })*
                }
            }
        }
    };
}

values!(U8 u8, U16 u16, I8 i8, F16 f16, F32 f32);
