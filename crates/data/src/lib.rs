//! Formats of data sets: NumPy's arrays, IDX, CIFAR's binary version, folders of images.
//!
//! [`DataSet::load`] reads a data set into memory, or the samples of it that are wanted. Memory is
//! claimed from the file's [`Room`] before it is allocated, so that it stays in proportion to the file.
//! Callers who read elements in pieces begin with what the file says before them: type, shape, where
//! elements begin.
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
mod format;
pub mod idx;
pub mod images;
pub mod npy;
mod options;
pub mod random;
mod room;
mod rows;
mod set;
mod sink;

pub use array::{Array, Layout, Values};
pub use error::{Error, Fault, Result};
pub use format::Format;
pub use options::{DataOptions, Resize};
pub use room::Room;
pub use set::DataSet;
pub use sink::Sink;

/// What the array of labels is called in an `.npz`.
pub const LABELS: [&str; 3] = ["labels", "label", "y"];
