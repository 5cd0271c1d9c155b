//! Sessions of protected models on ONNX Runtime, in one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod agree;
mod faults;
#[cfg(feature = "inputs")]
mod keyed;
mod lab;
#[cfg(feature = "labels")]
mod labels;
#[cfg(target_os = "linux")]
mod on_demand;
mod sessions;
mod tiers;
