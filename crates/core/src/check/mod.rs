//! Calls that only read a model: they report which weights are encrypted, and whether the model is
//! authentic.

pub(crate) mod inspect;
pub(crate) mod outline;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod shortfall;
pub(crate) mod verify;
