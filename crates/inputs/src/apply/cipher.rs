//! A key's transforms, made ready for images of one size.

use std::fmt;

use nalgebra::DMatrix;
use onnxseal_store::parallel::for_each;

use super::ffx::Ffx;
use super::places::Direction;
use crate::error::Result;
use crate::key::{Layout, Spec, Transform};

/// The approximate values that a core works on at once.
const JOB_VALUES: usize = 1 << 17;

/// A key prepared for images of one size.
pub struct Cipher {
    pub(super) spec: Spec,
    /// The order of axes, and whether that of channels is reversed.
    pub(super) order: (Layout, bool),
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Values of an image.
    pub(super) n: usize,
    /// For each value of a keyed image, its place in a plain one, plus `n` if it is masked.
    pub(super) sources: Vec<u32>,
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
        let plane = match self.order.0 {
            Layout::Nchw => self.rows * self.columns,
            Layout::Nhwc => 1,
        };
        let planes = values.chunks_mut(plane.max(1));
        for (plane, (m, s)) in planes.zip(self.statistics.iter().cycle()) {
            for value in plane {
                *value = change(*value, *m, *s);
            }
        }
    }

    /// Looks up each value of an image in `values`: those of the other image, followed by the masked
    /// ones, if any are.
    pub(super) fn look_up<T: Copy>(&self, way: Direction, values: &[T], to: &mut [T]) {
        match way {
            Direction::Forwards => {
                for (to, source) in to.iter_mut().zip(&self.sources) {
                    *to = values[*source as usize];
                }
            }
            Direction::Backwards => {
                for (i, source) in self.sources.iter().enumerate() {
                    let source = *source as usize;
                    let masked = if source < self.n { 0 } else { self.n };
                    to[source - masked] = values[i + masked];
                }
            }
        }
    }

    /// Works on images on all cores. Each makes a `worker`, which gets one image after the other, and
    /// the place of its result.
    pub(super) fn between<A: Sync, B: Send, W: FnMut(&[A], &mut [B]) -> Result<()>>(
        &self,
        from: &[A],
        to: &mut [B],
        worker: impl Fn() -> W + Sync,
    ) -> Result<()> {
        let n = self.n.max(1);
        let each = (JOB_VALUES / n).max(1) * n;
        let jobs = from.chunks(each).zip(to.chunks_mut(each));
        let n_jobs = from.len().div_ceil(each) as u64;
        for_each(false, n_jobs, jobs, worker, |work, (from, to)| {
            let mut images = from.chunks_exact(n).zip(to.chunks_exact_mut(n));
            images.try_for_each(|(from, to)| work(from, to))
        })
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher")
            .field("spec", &self.spec)
            .field("rows", &self.rows)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}
