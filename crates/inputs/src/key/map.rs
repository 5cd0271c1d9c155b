//! The affine map of a key on the values of one block.

use nalgebra::DMatrix;
use onnxseal_crypto::inputs::{Draw, InputSeed};

use crate::error::Result;
use crate::key::spec::{Spec, Transform};

/// A map of the values of a block, from plain images to a key's, or from one key's to another's.
/// Values are pixels in units of the range, before any normalisation.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockMap {
    /// `y[t]` is `x[places[t]]`, or if `negated[t]` the range's low and high end added, minus that.
    Signed {
        /// The source of the value at t.
        places: Vec<u32>,
        negated: Vec<bool>,
    },
    /// `y = A x`.
    Orthogonal(DMatrix<f64>),
}

impl BlockMap {
    pub(super) fn draw(spec: &Spec, seed: &InputSeed) -> Result<BlockMap> {
        let n = spec.block_values();
        if spec.has(Transform::Orthogonal) {
            return Ok(BlockMap::Orthogonal(orthogonal(n, seed)?));
        }
        let mut places: Vec<u32> = (0..n as u32).collect();
        if spec.has(Transform::Shuffle) {
            seed.numbers(Draw::Shuffle)?.shuffle(&mut places);
        }
        let negated = if spec.has(Transform::Negative) {
            mask(spec, seed)?
        } else {
            vec![false; n]
        };
        Ok(BlockMap::Signed { places, negated })
    }

    /// Returns the map from the images of `old` to those of `new`, or `None` if only one of them is
    /// a matrix, or they are for blocks of different sizes.
    pub fn between(old: &BlockMap, new: &BlockMap) -> Option<BlockMap> {
        use BlockMap::{Orthogonal, Signed};
        let (places, negated, of_old, negated_old) = match (old, new) {
            // The inverse of an orthogonal matrix is its transpose.
            (Orthogonal(old), Orthogonal(new)) if old.shape() == new.shape() => {
                return Some(Orthogonal(new * old.transpose()));
            }
            (
                Signed {
                    places: old,
                    negated: by_old,
                },
                Signed { places, negated },
            ) => (places, negated, old, by_old),
            _ => return None,
        };
        (places.len() == of_old.len()).then_some(())?;
        let mut inverse = vec![0; of_old.len()];
        for (t, from) in (0u32..).zip(of_old) {
            *inverse.get_mut(*from as usize)? = t;
        }
        let at = |from: &u32| inverse.get(*from as usize).copied();
        let places: Vec<u32> = places.iter().map(at).collect::<Option<_>>()?;
        let is_negated = |(from, new): (&u32, &bool)| negated_old[*from as usize] ^ new;
        let negated = places.iter().zip(negated).map(is_negated).collect();
        Some(Signed { places, negated })
    }
}

/// Returns which half of a block's places negation or FFX masks.
pub(super) fn mask(spec: &Spec, seed: &InputSeed) -> Result<Vec<bool>> {
    let n = spec.block_values();
    let mut mask: Vec<bool> = (0..n).map(|t| t < n / 2).collect();
    seed.numbers(Draw::Mask)?.shuffle(&mut mask);
    Ok(mask)
}

/// Draws a random orthogonal matrix: `H_n ... H_3 H_2`, where `H_k = I - 2 v v^T / (v^T v)`
/// reflects the last k coordinates (Stewart, The Efficient Generation of Random Orthogonal
/// Matrices, 1980). The entries of v are nearly normal: sums of 8 bytes of the stream, minus 1020.
fn orthogonal(n: usize, seed: &InputSeed) -> Result<DMatrix<f64>> {
    let mut numbers = seed.numbers(Draw::Orthogonal)?;
    let mut values = vec![0.0; n * n];
    values.iter_mut().step_by(n + 1).for_each(|one| *one = 1.0);
    let mut sums = vec![0.0; n];
    for k in 2..=n {
        let entry = |_| {
            let bytes: [u8; 8] = numbers.take();
            f64::from(bytes.map(i32::from).iter().sum::<i32>() - 1020)
        };
        let v: Vec<f64> = (0..k).map(entry).collect();
        let square: f64 = v.iter().map(|v| v * v).sum();
        if square == 0.0 {
            continue;
        }
        // Multiply from the left: subtract v times (2 / v^T v) v^T rows from the last k rows, which
        // have entries in all columns.
        let rows = &mut values[(n - k) * n..];
        sums.fill(0.0);
        for (row, v) in rows.chunks_exact(n).zip(&v) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += v * x);
        }
        for (row, v) in rows.chunks_exact_mut(n).zip(&v) {
            let factor = 2.0 * v / square;
            row.iter_mut()
                .zip(&sums)
                .for_each(|(x, sum)| *x -= factor * sum);
        }
    }
    Ok(DMatrix::from_row_slice(n, n, &values))
}
