//! IDX, the format of MNIST.
//!
//! ```text
//! 0 0  type  n_dims  dims (u32, big-endian, n_dims times)  elements (big-endian)
//! ```
//! Source: <http://yann.lecun.com/exdb/mnist/>

use std::io::Read;

use crate::error::{Result, bad};

/// What gzip's files begin with; IDX is often gzipped.
pub const GZIP: [u8; 2] = [0x1F, 0x8B];

/// The type of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

/// What a file says before its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The elements' type.
    pub element: Element,
    /// The shape; the first axis counts the samples.
    pub dims: Vec<usize>,
    /// Bytes of all elements.
    pub elements_bytes: u64,
    /// The header itself.
    pub bytes: Vec<u8>,
}

/// Whether a file that begins so is IDX, or may be when it is no longer gzipped.
pub fn is_idx(first: &[u8]) -> bool {
    first.starts_with(&GZIP) || matches!(first, [0, 0, 0x08..=0x0E, 1..=8, ..])
}

impl Element {
    /// Bytes of an element.
    pub fn len_bytes(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::I16 => 2,
            Element::I32 | Element::F32 => 4,
            Element::F64 => 8,
        }
    }
}

impl Header {
    /// Reads all that stands before the elements.
    ///
    /// # Errors
    /// [`Error`](crate::Error).
    pub fn read(from: &mut impl Read) -> Result<Header> {
        let mut magic = [0; 4];
        from.read_exact(&mut magic)?;
        let [0, 0, kind, n_dims @ 1..=8] = magic else {
            return Err(bad("not IDX by its first bytes"));
        };
        let element = match kind {
            0x08 => Element::U8,
            0x09 => Element::I8,
            0x0B => Element::I16,
            0x0C => Element::I32,
            0x0D => Element::F32,
            0x0E => Element::F64,
            _ => return Err(bad(format!("IDX has no element type {kind:#04x}"))),
        };
        let (mut bytes, mut dims) = (magic.to_vec(), Vec::new());
        let mut elements_bytes: Option<u64> = Some(element.len_bytes() as u64);
        for _ in 0..n_dims {
            let mut dim = [0; 4];
            from.read_exact(&mut dim)?;
            bytes.extend(dim);
            let dim = u32::from_be_bytes(dim);
            elements_bytes = elements_bytes.and_then(|n| n.checked_mul(u64::from(dim)));
            dims.push(dim as usize);
        }
        let elements_bytes =
            elements_bytes.ok_or_else(|| bad("its shape has more elements than can be"))?;
        Ok(Header {
            element,
            dims,
            elements_bytes,
            bytes,
        })
    }
}
