//! Reads data sets: NumPy's arrays, IDX, CIFAR's binary version, CSV, and folders of images.
//!
//! [`DataSet::load`] reads a data set, or the wanted samples of it, into memory. It claims memory
//! from the file's [`Room`] before it allocates, so that memory stays in proportion to the file.
//! Callers who read elements in pieces begin with the header: type, shape, and where elements
//! begin.
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
// Only this workspace uses it: docs say what names do not.
#![allow(missing_docs)]

mod array;
mod cifar;
mod csv;
mod error;
mod folder;
mod format;
mod header;
mod idx;
pub mod images;
pub mod npy;
mod options;
mod pixels;
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

/// The names of the array of labels in an `.npz`.
pub const LABELS: [&str; 3] = ["labels", "label", "y"];
