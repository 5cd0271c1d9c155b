//! Calls that make a protected model, or change one: protect, rotate, rekey, sign.
//!
//! Each makes its outputs whole or not at all. What is read of a protected model comes through
//! `open`; nothing here restores a model.

pub(crate) mod protect;
pub(crate) mod rekey;
pub(crate) mod rename;
pub(crate) mod rotate;
pub(crate) mod seal;
pub(crate) mod sign;
pub(crate) mod splice;
