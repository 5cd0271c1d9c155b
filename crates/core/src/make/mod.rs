//! Calls that make a protected model, or change one: protect, rotate, rekey, sign; and one
//! that issues licences.
//!
//! Each publishes its outputs whole or not at all, and reads protected models through `open`.

pub(crate) mod audience;
pub(crate) mod issue;
pub(crate) mod planned;
pub(crate) mod protect;
pub(crate) mod rekey;
pub(crate) mod rename;
pub(crate) mod repack;
pub(crate) mod rotate;
pub(crate) mod seal;
pub(crate) mod sign;
pub(crate) mod splice;
