//! What an attacker gets who has a protected model, knows every encrypted position, and has some data.

#![forbid(unsafe_code)]

pub mod assessment;

pub use assessment::Assessment;
