//! Transforms beyond moving and negating values, computed in 64-bit floats and rounded once at the
//! end.

use nalgebra::DMatrix;

use super::cipher::Cipher;
use super::places::Direction;
use super::value::Value;
use crate::error::Result;

/// Makes what transforms one image after the other. `matrix` is that of an orthogonal key, in this
/// direction.
pub(super) fn worker<'c, A: Value, B: Value>(
    cipher: &'c Cipher,
    way: Direction,
    matrix: Option<&'c DMatrix<f64>>,
    is_normalised: bool,
) -> impl FnMut(&[A], &mut [B]) -> Result<()> + 'c {
    let (mut values, mut looked_up) = (Vec::new(), vec![0.0; cipher.n]);
    // The image's blocks as columns, before and after the matrix.
    let side = matrix.map_or(0, DMatrix::nrows);
    let mut blocks = DMatrix::zeros(side, cipher.n.checked_div(side).unwrap_or(0));
    let mut mixed = blocks.clone();
    move |image, result| {
        let n = image.len();
        values.clear();
        values.extend(image.iter().map(|value| value.to_f64()));
        if is_normalised {
            cipher.each_channel(&mut values, |x, m, s| x * s + m);
        }
        if let Some(ffx) = &cipher.ffx {
            for value in &mut values {
                *value = ffx.number(way, A::IS_FLOAT, *value)?;
            }
            values.extend_from_within(..);
            for value in &mut values[n..] {
                *value = ffx.masked(way, *value);
            }
        }
        if let (Some(matrix), Some((_, blockwise))) = (matrix, &cipher.matrix) {
            for (value, place) in blocks.iter_mut().zip(blockwise) {
                *value = values[*place as usize];
            }
            mixed.gemm(1.0, matrix, &blocks, 0.0);
            for (place, value) in blockwise.iter().zip(mixed.iter()) {
                values[*place as usize] = *value;
            }
        }
        if let Some(sum) = cipher.sum() {
            values.extend_from_within(..);
            for value in &mut values[n..] {
                *value = sum - *value;
            }
        }
        cipher.look_up(way, &values, &mut looked_up);
        if let Some(ffx) = &cipher.ffx {
            for value in &mut looked_up {
                *value = ffx.value(way, B::IS_FLOAT, *value)?;
            }
        }
        if is_normalised {
            cipher.each_channel(&mut looked_up, |y, m, s| (y - m) / s);
        }
        for (to, from) in result.iter_mut().zip(&looked_up) {
            *to = B::from_f64(*from);
        }
        Ok(())
    }
}
