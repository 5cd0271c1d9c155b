//! Options of reading.

use rand::seq::index;

use crate::array::{Layout, picked};
use crate::error::{Error, Result};
use crate::random::rng;

/// How to read data.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DataOptions {
    /// Whether labels are unnecessary, so that all images below a folder are taken, in the order of
    /// their paths.
    pub unlabelled: bool,
    /// The order of the axes of images for the model; if absent, taken from its input's shape.
    pub layout: Option<Layout>,
    /// Whether the model takes channels as blue, green, red.
    pub bgr: bool,
    /// The divisor of all values, before `mean` and `std`; 1 if absent.
    pub scale: Option<f64>,
    /// The mean, which is then subtracted: one number, or one per channel.
    pub mean: Vec<f64>,
    /// The deviation, by which values are then divided: one number, or one per channel.
    pub std: Vec<f64>,
    /// The size to which images of a folder are resized.
    pub resize: Option<Resize>,
    /// Columns and rows of the middle to crop after that.
    pub crop: Option<(u32, u32)>,
    /// The most samples; if there are more, `seed` draws them.
    pub limit: Option<usize>,
    /// Whether to take the first samples up to the limit instead of drawing them.
    pub first: bool,
    /// The seed for drawing samples.
    pub seed: u64,
    /// For CSV: whether the first column is the label, instead of the column `label`.
    pub label_first: bool,
}

/// The size to which an image is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Columns and rows.
    To(u32, u32),
    /// The shorter side; the other in proportion.
    Shorter(u32),
}

impl DataOptions {
    /// Returns how many of `n` samples to keep.
    pub(crate) fn n_kept(&self, n: usize) -> usize {
        self.limit.map_or(n, |limit| limit.max(1).min(n))
    }

    /// Returns which of `n` samples to keep, in order, or `None` for all.
    pub(crate) fn kept(&self, n: usize) -> Option<Vec<usize>> {
        let limit = Some(self.n_kept(n)).filter(|kept| *kept < n)?;
        if self.first {
            return Some((0..limit).collect());
        }
        // Takes memory only for the drawn samples.
        let mut kept = index::sample(&mut rng(self.seed, "limit"), n, limit).into_vec();
        kept.sort_unstable();
        Some(kept)
    }

    /// Returns the kept ones of `all` samples, in order.
    pub(crate) fn of<T: Clone>(&self, all: Vec<T>) -> Vec<T> {
        match self.kept(all.len()) {
            Some(kept) => picked(&all, &kept, 1),
            None => all,
        }
    }

    /// Refuses divisors that are zero or not finite.
    pub(crate) fn check(&self) -> Result<()> {
        let is_divisor = |value: &f64| value.is_finite() && *value != 0.0;
        if !self.scale.iter().chain(&self.std).all(is_divisor)
            || !self.mean.iter().all(|mean| mean.is_finite())
        {
            return Err(Error::Usage(
                "scale and std must be numbers other than 0, and mean a number".into(),
            ));
        }
        Ok(())
    }
}
