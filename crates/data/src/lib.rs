//! Formats of data sets: NumPy's arrays, IDX, CIFAR's binary version, folders of images.
//!
//! What files say of themselves: which type, which shape, where elements begin. Who reads the elements, and how many at
//! once, is up to the caller.
//!
//! ```
//! use onnxseal_data::npy::Header;
//!
//! # fn main() -> onnxseal_data::Result<()> {
//! let file = Header::bytes_of("|u1", &[2, 3]);
//! let header = Header::read(&mut &file[..])?;
//! assert_eq!((header.dims, header.len_bytes), (vec![2, 3], file.len() as u64));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod cifar;
mod error;
pub mod idx;
pub mod images;
pub mod npy;

pub use error::{Error, Result};

/// What the array of labels is called in an `.npz`.
pub const LABELS: [&str; 3] = ["labels", "label", "y"];
