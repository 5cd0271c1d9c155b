//! A key's transforms, made ready for images of one size.

use std::fmt;

use nalgebra::DMatrix;

use super::ffx::Ffx;
use super::table::Table;
use crate::key::{Layout, Spec, Transform};

/// A key prepared for images of one size.
pub struct Cipher {
    pub(super) spec: Spec,
    pub(super) table: Table,
    pub(super) ffx: Option<Ffx>,
    /// The matrix of an orthogonal key, and the places of an image's values, block by block.
    pub(super) matrix: Option<(DMatrix<f64>, Vec<u32>)>,
    /// Mean and deviation of each channel.
    pub(super) statistics: Vec<(f64, f64)>,
}

impl Cipher {
    /// Returns the sum of a value and its negative, if any is negated.
    pub(super) fn sum(&self) -> Option<f64> {
        self.spec.has(Transform::Negative).then(|| self.spec.sum())
    }

    /// Changes the values of an image by the mean and deviation of their channels.
    pub(super) fn each_channel(&self, values: &mut [f64], change: impl Fn(f64, f64, f64) -> f64) {
        let plane = match self.table.order.0 {
            Layout::Nchw => self.table.rows * self.table.columns,
            Layout::Nhwc => 1,
        };
        let planes = values.chunks_mut(plane.max(1));
        for (plane, (m, s)) in planes.zip(self.statistics.iter().cycle()) {
            for value in plane {
                *value = change(*value, *m, *s);
            }
        }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher")
            .field("spec", &self.spec)
            .field("rows", &self.table.rows)
            .field("columns", &self.table.columns)
            .finish_non_exhaustive()
    }
}
