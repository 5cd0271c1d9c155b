//! Options of a call, its progress and its report.

use std::path::PathBuf;

use onnxseal_store::{OutputOptions, Silent};

use crate::apply::{Scale, ValueType};

/// Failures that a report has, at most: a data set may be large, and all of it broken.
pub const MAX_LISTED: usize = 1000;

/// How data sets are made keyed ones.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EncryptOptions {
    /// Whether keyed data become plain ones instead.
    pub decrypt: bool,
    /// Whether outputs that are there are made again, and whether to wait for the disk.
    pub output: OutputOptions,
    /// Files that are no output's place, such as the key that the caller has read.
    pub spared: Vec<PathBuf>,
    /// Into which type of values FFX makes images, or makes them back; absent, the usual one.
    pub result: Option<ValueType>,
    /// Whether arrays of floats are pixels or normalised.
    pub scale: Scale,
}

/// The result of a call.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Images that were transformed.
    pub n_images: u64,
    /// Files that were written.
    pub n_written: u64,
    /// Files whose output was there before.
    pub n_skipped: u64,
    /// Files in folders that are no images, and were left out.
    pub n_left_out: u64,
    /// Those of them that are arrays by their names.
    pub n_arrays_left_out: u64,
    /// The lowest and the highest of all floats that were made keyed ones, as they were before.
    pub floats: Option<(f64, f64)>,
    /// Files of which nothing was made.
    pub n_failed: u64,
    /// The first of those, [`MAX_LISTED`] at most.
    pub failed: Vec<Failed>,
    /// The arrays of `.npz` files.
    pub arrays: Vec<ArrayDone>,
}

/// A file of which nothing was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
    /// Whether it is that the key is for images of another kind: other channels, axes or sizes.
    pub is_misfit: bool,
}

/// An array of an `.npz` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayDone {
    /// The file.
    pub path: PathBuf,
    /// What the array is called.
    pub name: String,
    /// Whether it was transformed; the others were copied.
    pub is_transformed: bool,
}

/// Receives the progress of a call, and hears of files that fail. Several threads call it.
///
/// If the call is cancelled it fails with [`Error::Cancelled`](crate::Error::Cancelled); files that are whole stay.
pub trait Progress: onnxseal_store::Progress {
    /// Of this file nothing will be made; the call goes on.
    fn failed(&self, failed: &Failed) {
        let _ = failed;
    }
}

impl Progress for Silent {}
