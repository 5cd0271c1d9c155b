//! Reads and writes the bytes of models, in files, memory, and objects in stores. Outputs appear
//! whole or not at all.
//!
//! This crate has all that differs between platforms and stores, with its `unsafe` code in `map`,
//! `faults` and `windows`.
//! It knows neither ONNX nor keys.
//!
//! ```
//! use onnxseal_store::{Input, Location};
//!
//! # fn main() -> onnxseal_store::Result<()> {
//! let location = Location::parse("Cargo.toml")?;
//! let input = Input::open(&location)?;
//! let mut first = [0; 9];
//! input.read_exact_at(&mut first, 0)?;
//! assert_eq!(&first, b"[package]");
//! # Ok(())
//! # }
//! ```
//!
//! The feature `object-store` reaches models in object stores (`docs/STORAGE.md`).

#![allow(missing_docs)]

/// Shows values of a type by its name alone: what they hold is secret, or too much to read.
macro_rules! opaque {
    ($($name:ident),+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )+};
}

/// Methods of what cannot be made.
#[allow(unused_macros)]
macro_rules! never {
    ($($name:ident($($argument:ty),*) -> $result:ty;)+) => {$(
        pub(crate) fn $name(&self $(, _: $argument)*) -> $result {
            match *self {}
        }
    )+};
}

pub mod beside;
mod change;
pub mod draft;
mod error;
#[cfg_attr(not(target_os = "linux"), path = "no_faults.rs")]
mod faults;
mod file_id;
pub mod folder;
mod input;
mod input_file;
mod limit;
mod location;
pub mod map;
mod memory;
mod new_file;
pub mod no_links;
#[cfg_attr(not(feature = "object-store"), path = "no_object.rs")]
mod object;
mod object_url;
pub mod on_demand;
mod output;
pub mod parallel;
mod presence;
mod progress;
mod redact;
pub mod reflink;
mod regular;
mod secret;
#[cfg(any(test, not(any(unix, windows))))]
mod seek;
pub mod splice;
mod stamp;
mod stream;
#[cfg(windows)]
mod windows;

pub use bytes::Bytes;
pub use change::Change;
pub use draft::{Replaced, replace_whole, write_unsynced, write_whole};
pub use error::{Error, ErrorKind, FileFault, OutputFault, Result, io};
pub use file_id::{is_at, is_same_file, try_lock};
pub use folder::{sync_all, sync_folder};
pub use input::{Input, read_exact_at, zeros};
pub use limit::{raise_file_limit, restore_file_limit};
pub use location::{Changed, Location, folder_of, or_here};
pub use map::SparseBytes;
pub use memory::InMemory;
pub use new_file::create_file;
pub use object_url::ObjectUrl;
pub use output::{Flush, Output, OutputOptions, Permitted, Published, Readers, write_all_at};
pub use presence::create;
pub use progress::{Progress, Silent};
pub use redact::{holds_secret, is_deceptive, redact, shown, without_keys};
pub use regular::open_regular;
pub use secret::SecretBytes;
pub use stamp::{Stamp, Version};
pub use stream::{STANDARD_OUTPUT, There, check_no_stream, is_standard_output, open_handed_over};
#[cfg(windows)]
pub use windows::available_memory;
