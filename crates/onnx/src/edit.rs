//! Edits that change the length of a file: they replace ranges, and copy all other bytes.
//!
//! [`rename_external`] returns edits that can be stored and undone. [`move_elements`] applies its
//! edits at once and drops them, because they contain decrypted weights. A [`Change`] adds to a
//! message or replaces its fields; [`parts`] lists the fields of the main graph.

mod change;
mod draft;
mod edits;
mod elements;
mod parts;
mod rename;

pub use change::{Change, NewTensor, add_input, set_elements, with_lengths};
pub use edits::{Edits, Texts};
pub use elements::{Elements, move_elements};
pub use parts::{Part, PartKind, Parts, add_metadata, parts};
pub use rename::rename_external;
