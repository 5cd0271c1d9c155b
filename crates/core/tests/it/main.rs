//! What `core` promises its callers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod clear;
mod corruption;
mod lab;
mod manifest;
mod many_targets;
mod rekey;
mod rename;
mod round_trip;
mod search;
mod sign;
mod splice;
mod tiers;
mod verify;
