//! Edits that change the length of a file: ranges are replaced, all other bytes copied as they are.
//!
//! [`rename_external`] gives edits that can be written down and undone. Those of [`move_elements`] are
//! applied at once and then gone, because decrypted weights are among them. A [`Change`] adds to a message
//! or replaces fields of it; [`parts`] lists those of the main graph.

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
