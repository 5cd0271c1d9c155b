//! What the tests of all crates share: tiny models, ways to damage them, and models from outside.
//!
//! [`samples`] has ready-made models, [`build`] the parts to make others from, [`wire`] what the
//! generated messages cannot write, [`figures`] the lines of benchmarks.

pub mod build;
pub mod corrupt;
pub mod figures;
pub mod samples;
pub mod shared;
pub mod wire;

pub use samples::Sample;
pub use shared::shared_models;
