//! An [`Assessment`](crate::Assessment) for people: one HTML file, or a table in plain text.
//!
//! The page stands alone, without scripts or fetched parts, and is well-formed XML. All text from a
//! model or its data is escaped.

pub mod curve;
mod page;
pub mod summary;
#[cfg(test)]
mod tests;
mod text;

pub use page::html;
