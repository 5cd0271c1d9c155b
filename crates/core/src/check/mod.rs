//! Calls that look at a model and change nothing: what is encrypted in it, whether it is authentic,
//! and the report that says so.

pub(crate) mod inspect;
pub(crate) mod outline;
pub(crate) mod report;
pub(crate) mod verify;
