//! Transforms beyond moving and negating values, computed in 64-bit floats and rounded once at the
//! end.

use nalgebra::DMatrix;

use super::cipher::Cipher;
use super::table::{Direction, Work};
use super::value::Value;
use crate::error::Result;

pub(super) struct Real<'k> {
    pub(super) cipher: &'k Cipher,
    pub(super) direction: Direction,
    /// The matrix of an orthogonal key, in this direction.
    pub(super) matrix: Option<&'k DMatrix<f64>>,
    pub(super) is_normalised: bool,
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
        if self.is_normalised {
            self.cipher
                .each_channel(&mut self.values, |x, m, s| x * s + m);
        }
        if let Some(ffx) = &self.cipher.ffx {
            for value in &mut self.values {
                *value = ffx.number(self.direction, A::IS_FLOAT, *value)?;
            }
            let masked = |i| ffx.masked(self.direction, self.values[i]);
            self.values.extend((0..n).map(masked).collect::<Vec<_>>());
        }
        if let (Some(matrix), Some((_, blockwise))) = (self.matrix, &self.cipher.matrix) {
            for (value, place) in self.blocks.iter_mut().zip(blockwise) {
                *value = self.values[*place as usize];
            }
            self.mixed.gemm(1.0, matrix, &self.blocks, 0.0);
            for (place, value) in blockwise.iter().zip(self.mixed.iter()) {
                self.values[*place as usize] = *value;
            }
        }
        if let Some(sum) = self.cipher.sum() {
            self.values.extend_from_within(..);
            self.values[n..]
                .iter_mut()
                .for_each(|value| *value = sum - *value);
        }
        Ok(())
    }

    fn give(&mut self, image: &mut [B]) -> Result<()> {
        let (direction, table) = (self.direction, &self.cipher.table);
        self.looked_up.resize(image.len(), 0.0);
        table.look_up(direction, &self.values, &mut self.looked_up);
        if let Some(ffx) = &self.cipher.ffx {
            for value in &mut self.looked_up {
                *value = ffx.value(direction, B::IS_FLOAT, *value)?;
            }
        }
        if self.is_normalised {
            self.cipher
                .each_channel(&mut self.looked_up, |y, m, s| (y - m) / s);
        }
        for (to, from) in image.iter_mut().zip(&self.looked_up) {
            *to = B::from_f64(*from);
        }
        Ok(())
    }
}
