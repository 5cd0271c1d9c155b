//! Edits that change the length of a file: ranges are replaced, all other bytes copied as they are.
//!
//! [`rename_external`] gives edits that can be written down and undone. Those of [`move_elements`] are
//! applied at once and then gone, because decrypted weights are among them.

mod draft;
mod edits;
mod elements;
mod rename;

pub use edits::{Edits, Texts};
pub use elements::{Elements, move_elements};
pub use rename::rename_external;
