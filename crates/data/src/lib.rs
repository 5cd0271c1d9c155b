//! Formats of data sets: NumPy's arrays, IDX, CIFAR's binary version, folders of images.
//!
//! [`DataSet::load`] reads a whole data set into memory. Callers who read elements in pieces begin with what the file says before them:
//! type, shape, where elements begin.
//!
//! ```
//! use onnxseal_data::npy::Header;
//!
//! # fn main() -> Result<(), onnxseal_data::Fault> {
//! let file = Header::bytes_of("|u1", &[2, 3]);
//! let header = Header::read(&mut &file[..])?;
//! assert_eq!((header.dims, header.len_bytes), (vec![2, 3], file.len() as u64));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod array;
pub mod cifar;
mod csv;
mod error;
mod folder;
pub mod idx;
pub mod images;
mod names;
pub mod npy;
mod options;
pub mod random;
mod set;

pub use array::{Array, Layout, Values};
pub use error::{Error, Fault, Result};
pub use names::extension;
pub use options::{DataOptions, Resize};
pub use set::DataSet;

/// What the array of labels is called in an `.npz`.
pub const LABELS: [&str; 3] = ["labels", "label", "y"];
