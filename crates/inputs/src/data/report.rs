//! Options of a call, its progress and its report.

use std::path::PathBuf;

use onnxseal_store::OutputOptions;

use crate::apply::{Scale, ValueType};

/// The most failures in a report, since a large data set may be wholly broken.
pub const MAX_LISTED: usize = 1000;

#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EncryptOptions {
    /// Whether to make plain data from keyed ones instead.
    pub decrypt: bool,
    /// Whether to make existing outputs again, and whether to wait for the disk.
    pub output: OutputOptions,
    /// Files that outputs must not replace, such as the key that the caller has read.
    pub spared: Vec<PathBuf>,
    /// The type of values of FFX's results; if absent, the usual one.
    pub result: Option<ValueType>,
    /// Whether arrays of floats are pixels or normalised.
    pub scale: Scale,
}

#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    pub n_images: u64,
    pub n_written: u64,
    /// Files whose output existed before.
    pub n_skipped: u64,
    /// Files in folders other than images, which were left out.
    pub n_left_out: u64,
    /// How many of these are arrays by their names.
    pub n_arrays_left_out: u64,
    /// The lowest and the highest of all transformed floats, before the transform.
    pub floats: Option<(f64, f64)>,
    pub n_failed: u64,
    /// The first failures, at most [`MAX_LISTED`].
    pub failed: Vec<Failed>,
    pub arrays: Vec<ArrayDone>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub path: PathBuf,
    pub reason: String,
    /// Whether the reason is that the key is for images of another kind: other channels, axes or
    /// sizes.
    pub is_misfit: bool,
}

/// An array of an `.npz` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayDone {
    pub path: PathBuf,
    pub name: String,
    /// Whether it was transformed rather than copied.
    pub is_transformed: bool,
}
