//! Attacks that recover the key from images or weights.
//!
//! The attacks know no secrets. Attackers know the size of blocks and the number of channels,
//! because the model reveals them. `docs/INPUTS.md` has the results.

mod assignment;
mod images;
mod rows;
mod weights;

use nalgebra::DMatrix;

pub use images::ImageSet;
pub use rows::{Row, of_model, of_pairs};
pub use weights::{from_checkpoint, from_weights, score_of_halves};

use crate::apply::blockwise;
use crate::error::{Error, Result};
use crate::key::{BlockMap, InputKey, Spec};
use assignment::assign;

/// The most values of a block that [`from_pairs`], [`from_checkpoint`] and [`from_weights`] match:
/// time and memory grow with their square, and more.
pub const MAX_MATCHED: usize = 3072;

/// An attacker's guess at the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The source of the value at each position of a block.
    pub places: Vec<u32>,
    pub negated: Vec<bool>,
}

/// The correct parts of a guess, as shares from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Correct positions.
    pub places: f64,
    /// Positions correct to within one row and column, in any channel.
    pub near: f64,
    /// Positions with the correct sign.
    pub negated: f64,
}

impl Guess {
    pub fn score(&self, key: &InputKey) -> Result<Score> {
        let (places, negated) = signed(key, self.places.len())?;
        let (block, channels) = (key.spec().block, key.spec().channels);
        let pixel = |t: u32| (t / channels / block, t / channels % block);
        let is_near = |(a, b): (&u32, &u32)| {
            let ((ra, ca), (rb, cb)) = (pixel(*a), pixel(*b));
            ra.abs_diff(rb) <= 1 && ca.abs_diff(cb) <= 1
        };
        let pairs = || self.places.iter().zip(places);
        let n = places.len().max(1) as f64;
        Ok(Score {
            places: share(&self.places, places),
            near: pairs().filter(|pair| is_near(*pair)).count() as f64 / n,
            negated: share(&self.negated, negated),
        })
    }

    /// Returns the share of correct values in images that the guess makes plain again.
    pub fn restored(&self, plain: &ImageSet, keyed: &ImageSet, spec: &Spec) -> Result<f64> {
        let sum = keyed.sum(spec);
        let mut right = 0;
        each_block(plain, keyed, spec, |x, y| {
            for ((y, from), negated) in y.iter().zip(&self.places).zip(&self.negated) {
                let value = if *negated { sum - y } else { *y };
                let wanted = x.get(*from as usize).copied().unwrap_or(f64::INFINITY);
                right += usize::from((value - wanted).abs() < 1e-3 * sum.abs().max(1.0));
            }
        })?;
        Ok(right as f64 / plain.values.len().max(1) as f64)
    }
}

/// Recovers the key from images in both forms: for each position, the plain one that agrees with it
/// best in all blocks, directly or negated.
///
/// One image of CIFAR-10 gives all positions, or a third of them if it is grey; two give all.
/// Positions that are equal in all images cannot be told apart, and need not be.
pub fn from_pairs(plain: &ImageSet, keyed: &ImageSet, spec: &Spec) -> Result<Guess> {
    let (n, sum) = (spec.block_values(), keyed.sum(spec));
    check_size(n)?;
    let mut same = DMatrix::zeros(n, n);
    let mut negative = DMatrix::zeros(n, n);
    each_block(plain, keyed, spec, |x, y| {
        for (u, x) in x.iter().enumerate() {
            for (t, y) in y.iter().enumerate() {
                same[(t, u)] += (y - x).abs();
                negative[(t, u)] += (sum - y - x).abs();
            }
        }
    })?;
    let places = assign(&same.zip_map(&negative, f64::min));
    let is_negated = |(t, u): (usize, &u32)| {
        let at = (t, *u as usize);
        negative[at] < same[at]
    };
    let negated = places.iter().enumerate().map(is_negated).collect();
    Ok(Guess { places, negated })
}

/// Calls `of` for each block in both forms.
fn each_block(
    plain: &ImageSet,
    keyed: &ImageSet,
    spec: &Spec,
    mut of: impl FnMut(&[f64], &[f64]),
) -> Result<()> {
    if (plain.n, plain.rows, plain.columns) != (keyed.n, keyed.rows, keyed.columns) {
        return Err(Error::Usage(
            "plain and keyed images are the same ones, in the same order".into(),
        ));
    }
    let places = |set: &ImageSet| blockwise(spec, set.order, set.rows, set.columns);
    let (of_plain, of_keyed) = (places(plain)?, places(keyed)?);
    let (size, n) = (of_plain.len().max(1), spec.block_values());
    let block = |image: &[f64], places: &[u32]| -> Vec<f64> {
        places.iter().map(|place| image[*place as usize]).collect()
    };
    let plain = plain.values.chunks_exact(size);
    for (x, y) in plain.zip(keyed.values.chunks_exact(size)) {
        for (plain, keyed) in of_plain.chunks_exact(n).zip(of_keyed.chunks_exact(n)) {
            of(&block(x, plain), &block(y, keyed));
        }
    }
    Ok(())
}

/// Returns the positions and the mask of a key for blocks of `n` values.
fn signed(key: &InputKey, n: usize) -> Result<(&[u32], &[bool])> {
    let BlockMap::Signed { places, negated } = key.map()? else {
        return Err(Error::Usage(
            "an orthogonal key has no positions to find".into(),
        ));
    };
    if places.len() == n {
        Ok((places, negated))
    } else {
        Err(Error::Usage("the key is for blocks of another size".into()))
    }
}

fn share<T: PartialEq>(found: &[T], wanted: &[T]) -> f64 {
    let equal = found.iter().zip(wanted).filter(|(a, b)| a == b);
    equal.count() as f64 / wanted.len().max(1) as f64
}

fn check_size(n: usize) -> Result<()> {
    if n <= MAX_MATCHED {
        Ok(())
    } else {
        Err(Error::Usage(format!(
            "blocks of {n} values are too large for this attack (limit {MAX_MATCHED})"
        )))
    }
}

#[cfg(test)]
mod tests;
