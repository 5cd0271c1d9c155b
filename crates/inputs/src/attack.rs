//! Attacks that recover the key from images or weights.
//!
//! The attacks know no secrets. Attackers know the size of blocks and the number of channels,
//! because the model reveals them. `docs/INPUTS.md` has the results.

mod assignment;
mod colours;
mod grid;
mod images;
mod matching;
mod relations;
mod rows;
mod weights;

use nalgebra::DMatrix;

pub use grid::Pictures;
pub use images::ImageSet;
pub use rows::{Found, MOST_PUBLIC, Row, of_images, of_model, of_pairs};
pub use weights::{Halves, from_checkpoint, from_weights};

use crate::error::{Error, Result};
use crate::key::{BlockMap, InputKey};
use assignment::assign;
use grid::Grid;

/// The most values of a block that [`from_pairs`], [`from_checkpoint`] and [`from_weights`] match:
/// time and memory grow with their square, and more.
pub const MAX_MATCHED: usize = 3072;

/// The most values of a block that [`from_images`] matches.
pub const MAX_RELATED: usize = 1024;

/// An attacker's guess at the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The source of the value at each position of a block.
    pub places: Vec<u32>,
    /// Whether the value is negated.
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
    /// Compares the guess with the key.
    ///
    /// # Errors
    /// [`Error::Usage`] for a key of other blocks, or one that is orthogonal.
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
    ///
    /// # Errors
    /// [`Error::Usage`] if shapes differ, or blocks do not divide them.
    pub fn restored(
        &self,
        plain: &Pictures<'_>,
        keyed: &Pictures<'_>,
        block: u32,
        sum: f64,
    ) -> Result<f64> {
        let (plain, keyed) = (Grid::new(plain, block)?, Grid::new(keyed, block)?);
        check_alike(&plain, &keyed)?;
        let n = plain.n_values;
        let mut right = 0;
        for (x, y) in plain
            .values
            .chunks_exact(n)
            .zip(keyed.values.chunks_exact(n))
        {
            for ((t, from), negated) in self.places.iter().enumerate().zip(&self.negated) {
                let value = y
                    .get(t)
                    .map_or(f64::NAN, |y| if *negated { sum - y } else { *y });
                let wanted = x.get(*from as usize).copied().unwrap_or(f64::INFINITY);
                right += usize::from((value - wanted).abs() < 1e-3 * sum.abs().max(1.0));
            }
        }
        Ok(right as f64 / plain.values.len().max(1) as f64)
    }
}

/// Recovers the key from images in both forms: for each position, the plain one that agrees with it
/// best in all blocks, directly or negated.
///
/// One image of CIFAR-10 gives all positions, or a third of them if it is grey; two give all.
/// Positions that are equal in all images cannot be told apart, and need not be. `sum` is the sum
/// of a value and its negative.
///
/// # Errors
/// [`Error::Usage`] if shapes differ, or blocks do not divide them.
pub fn from_pairs(
    plain: &Pictures<'_>,
    keyed: &Pictures<'_>,
    block: u32,
    sum: f64,
) -> Result<Guess> {
    let (plain, keyed) = (Grid::new(plain, block)?, Grid::new(keyed, block)?);
    check_alike(&plain, &keyed)?;
    let n = plain.n_values;
    check_size(n, MAX_MATCHED)?;
    let mut same = DMatrix::zeros(n, n);
    let mut negative = DMatrix::zeros(n, n);
    for (x, y) in plain
        .values
        .chunks_exact(n)
        .zip(keyed.values.chunks_exact(n))
    {
        for (u, x) in x.iter().enumerate() {
            for (t, y) in y.iter().enumerate() {
                same[(t, u)] += (y - x).abs();
                negative[(t, u)] += (sum - y - x).abs();
            }
        }
    }
    let places = assign(&same.zip_map(&negative, f64::min));
    let is_negated = |(t, u): (usize, &usize)| negative[(t, *u)] < same[(t, *u)];
    let negated = places.iter().enumerate().map(is_negated).collect();
    Ok(Guess {
        places: places.into_iter().map(|u| u as u32).collect(),
        negated,
    })
}

/// Recovers the key from keyed images and other, public images of this kind, without any image in
/// both forms, labels or a model.
///
/// 20 keyed images of CIFAR-10 give the whole key for blocks of 2, 4 and 8, and for blocks of 16
/// most positions to within one pixel. `sum` is the sum of a value and its negative.
///
/// # Errors
/// [`Error::Usage`] if there are more than 4 channels, channels differ, blocks do not divide the
/// images, or there are no images.
pub fn from_images(
    keyed: &Pictures<'_>,
    public: &Pictures<'_>,
    block: u32,
    sum: f64,
) -> Result<Guess> {
    if keyed.channels != public.channels || keyed.channels > 4 {
        return Err(Error::Usage(
            "keyed and public images have the same 1 to 4 channels".into(),
        ));
    }
    let mut grid = Grid::new(keyed, block)?;
    check_size(grid.n_values, MAX_RELATED)?;
    if grid.values.is_empty() {
        return Err(Error::Usage("there are no keyed images".into()));
    }
    // Half of the positions oppose the others; colours tell below which half is negated.
    let against = relations::signs(&grid);
    for values in grid.values.chunks_exact_mut(grid.n_values) {
        for (value, against) in values.iter_mut().zip(&against) {
            if *against {
                *value = sum - *value;
            }
        }
    }
    let found = relations::of_keyed(&grid);
    let wanted = relations::of_public(public, block)?;
    let places = matching::places(&found, &wanted);
    let (places, is_opposite) = colours::order(&grid, &places, public, sum);
    Ok(Guess {
        places: places.into_iter().map(|u| u as u32).collect(),
        negated: against
            .iter()
            .map(|against| against ^ is_opposite)
            .collect(),
    })
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

/// Returns the share of equal items.
fn share<T: PartialEq>(found: &[T], wanted: &[T]) -> f64 {
    let equal = found.iter().zip(wanted).filter(|(a, b)| a == b);
    equal.count() as f64 / wanted.len().max(1) as f64
}

fn check_size(n: usize, limit: usize) -> Result<()> {
    if n <= limit {
        Ok(())
    } else {
        Err(Error::Usage(format!(
            "blocks of {n} values are too large for this attack (limit {limit})"
        )))
    }
}

fn check_alike(one: &Grid, other: &Grid) -> Result<()> {
    if one.shape == other.shape && one.n_values == other.n_values {
        Ok(())
    } else {
        Err(Error::Usage(
            "plain and keyed images are the same ones, in the same order".into(),
        ))
    }
}

#[cfg(test)]
mod tests;
