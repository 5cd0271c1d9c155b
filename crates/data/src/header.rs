//! The header of an array in a file, and its elements as numbers.

use half::f16;

use crate::array::Values;
use crate::error::{Fault, bad};

pub(crate) const TOO_MANY: &str = "its shape has more elements than can be";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub element: Element,
    /// The shape.
    pub dims: Vec<usize>,
    /// Bytes of all elements.
    pub elements_bytes: u64,
    /// Bytes before the elements.
    pub len_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Float,
    Signed,
    Unsigned,
    Bool,
}

/// An element type, such as `<f4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    pub kind: Kind,
    /// Its bytes: 1, 2, 4 or 8.
    pub width: usize,
    /// Whether the highest byte is the first.
    pub is_big: bool,
}

impl Header {
    pub(crate) fn new(element: Element, dims: Vec<usize>, len_bytes: u64) -> Result<Header, Fault> {
        let mut sizes = dims.iter().map(|dim| *dim as u64);
        let elements_bytes = sizes.try_fold(element.width as u64, u64::checked_mul);
        Ok(Header {
            element,
            elements_bytes: elements_bytes.ok_or_else(|| bad(TOO_MANY))?,
            dims,
            len_bytes,
        })
    }
}

pub(crate) fn numbers(element: Element, mut bytes: Vec<u8>) -> Values {
    if element.is_big {
        bytes
            .chunks_exact_mut(element.width)
            .for_each(<[u8]>::reverse);
    }
    macro_rules! each {
        ($n:literal, $read:expr) => {
            bytes
                .chunks_exact($n)
                .map(|b| $read(b.try_into().unwrap_or([0; $n])))
                .collect()
        };
    }
    match (element.kind, element.width) {
        (Kind::Float, 2) => Values::F32(each!(2, |b| f16::from_le_bytes(b).to_f32())),
        (Kind::Float, 4) => Values::F32(each!(4, f32::from_le_bytes)),
        (Kind::Float, _) => Values::F64(each!(8, f64::from_le_bytes)),
        (Kind::Signed, 1) => Values::I64(each!(1, |b| i64::from(i8::from_le_bytes(b)))),
        (Kind::Signed, 2) => Values::I64(each!(2, |b| i64::from(i16::from_le_bytes(b)))),
        (Kind::Signed, 4) => Values::I64(each!(4, |b| i64::from(i32::from_le_bytes(b)))),
        (Kind::Signed, _) => Values::I64(each!(8, i64::from_le_bytes)),
        (_, 1) => Values::I64(each!(1, |b: [u8; 1]| i64::from(b[0]))),
        (_, 2) => Values::I64(each!(2, |b| i64::from(u16::from_le_bytes(b)))),
        (_, 4) => Values::I64(each!(4, |b| i64::from(u32::from_le_bytes(b)))),
        (..) => Values::I64(each!(8, |b| i64::try_from(u64::from_le_bytes(b))
            .unwrap_or(i64::MAX))),
    }
}
