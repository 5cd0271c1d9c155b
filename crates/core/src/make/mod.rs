//! Calls that make a protected model, or change one: protect, rotate, rekey, sign.
//!
//! Each makes its outputs whole or not at all. Protected models are read through `open`. No call here
//! restores a model.

pub(crate) mod audience;
pub(crate) mod planned;
pub(crate) mod protect;
pub(crate) mod rekey;
pub(crate) mod rename;
pub(crate) mod rotate;
pub(crate) mod seal;
pub(crate) mod sign;
pub(crate) mod splice;
