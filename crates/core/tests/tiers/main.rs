//! Models with tiers: who opens what, and what nobody can change for others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod damage;
mod editions;
mod fixtures;
mod house;
mod insiders;
#[path = "../lab/mod.rs"]
mod lab;
mod policies;
mod recipients;
