//! Calls that look at a model and change nothing: which weights are encrypted, whether the model is
//! authentic, and the reports about both.

pub(crate) mod inspect;
pub(crate) mod outline;
pub(crate) mod reads;
pub(crate) mod report;
pub(crate) mod shortfall;
pub(crate) mod smaller;
pub(crate) mod verify;
