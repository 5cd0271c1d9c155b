//! Transforms beyond moving and negating values, computed in 64-bit floats and rounded once at the
//! end.

use nalgebra::DMatrix;

use super::ffx::Ffx;
use super::table::{Direction, Table, Work};
use super::value::Value;
use crate::error::Result;
use crate::key::Layout;

pub(super) struct Real<'k> {
    pub(super) table: &'k Table,
    pub(super) direction: Direction,
    /// The sum of a value and its negative; absent if none is negated.
    pub(super) sum: Option<f64>,
    pub(super) ffx: Option<&'k Ffx>,
    pub(super) matrix: Option<(&'k DMatrix<f64>, &'k [u32])>,
    /// Mean and deviation of each channel, if values are normalised.
    pub(super) statistics: Option<&'k [(f64, f64)]>,
    /// An image, and its masked values.
    pub(super) values: Vec<f64>,
    pub(super) looked_up: Vec<f64>,
    /// The image's blocks as columns, before and after the matrix; empty without one.
    pub(super) blocks: DMatrix<f64>,
    pub(super) mixed: DMatrix<f64>,
}

impl<A: Value, B: Value> Work<A, B> for Real<'_> {
    fn take(&mut self, image: &[A]) -> Result<()> {
        let n = image.len();
        self.values.clear();
        self.values.extend(image.iter().map(|value| value.to_f64()));
        each_channel(self.table, self.statistics, &mut self.values, |x, m, s| {
            x * s + m
        });
        if let Some(ffx) = self.ffx {
            for value in &mut self.values {
                *value = ffx.number(self.direction, A::IS_FLOAT, *value)?;
            }
            let masked = |i| ffx.masked(self.direction, self.values[i]);
            self.values.extend((0..n).map(masked).collect::<Vec<_>>());
        }
        if let Some((matrix, blockwise)) = self.matrix {
            for (value, place) in self.blocks.iter_mut().zip(blockwise) {
                *value = self.values[*place as usize];
            }
            self.mixed.gemm(1.0, matrix, &self.blocks, 0.0);
            for (place, value) in blockwise.iter().zip(self.mixed.iter()) {
                self.values[*place as usize] = *value;
            }
        }
        if let Some(sum) = self.sum {
            self.values.extend_from_within(..);
            self.values[n..]
                .iter_mut()
                .for_each(|value| *value = sum - *value);
        }
        Ok(())
    }

    fn give(&mut self, image: &mut [B]) -> Result<()> {
        self.looked_up.resize(image.len(), 0.0);
        self.table
            .look_up(self.direction, &self.values, &mut self.looked_up);
        if let Some(ffx) = self.ffx {
            for value in &mut self.looked_up {
                *value = ffx.value(self.direction, B::IS_FLOAT, *value)?;
            }
        }
        each_channel(
            self.table,
            self.statistics,
            &mut self.looked_up,
            |y, m, s| (y - m) / s,
        );
        for (to, from) in image.iter_mut().zip(&self.looked_up) {
            *to = B::from_f64(*from);
        }
        Ok(())
    }
}

/// Changes the values of an image by the mean and deviation of their channels, if there are any.
fn each_channel(
    table: &Table,
    statistics: Option<&[(f64, f64)]>,
    values: &mut [f64],
    change: impl Fn(f64, f64, f64) -> f64,
) {
    let plane = match table.order.0 {
        Layout::Nchw => table.rows * table.columns,
        Layout::Nhwc => 1,
    };
    let planes = values.chunks_mut(plane.max(1));
    for (plane, (m, s)) in planes.zip(statistics.unwrap_or_default().iter().cycle()) {
        plane
            .iter_mut()
            .for_each(|value| *value = change(*value, *m, *s));
    }
}
