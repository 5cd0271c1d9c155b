//! Options of reading.

use rand::seq::index;

use crate::array::Layout;
use crate::error::{Error, Result};
use crate::random::rng;
use crate::rows::Rows;

/// How to read data.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DataOptions {
    /// Whether labels are unnecessary, so that all images below a folder are taken, in the order of
    /// their paths.
    pub unlabelled: bool,
    /// The order of the axes of images for the model; if absent, taken from its input's shape.
    pub layout: Option<Layout>,
    /// Whether the model takes channels as blue, green, red.
    pub bgr: bool,
    /// The divisor of all values, before `mean` and `std`.
    pub scale: f64,
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

impl Default for DataOptions {
    fn default() -> DataOptions {
        DataOptions {
            unlabelled: false,
            layout: None,
            bgr: false,
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
            resize: None,
            crop: None,
            limit: None,
            first: false,
            seed: 0,
            label_first: false,
        }
    }
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
    /// Chooses from the `n` samples of a file.
    pub(crate) fn rows(&self, n: usize) -> Rows {
        Rows {
            n,
            kept: self.kept(n),
        }
    }

    /// Returns how many of `n` samples to keep, or `None` for all.
    pub(crate) fn n_kept(&self, n: usize) -> Option<usize> {
        self.limit
            .map(|limit| limit.max(1))
            .filter(|kept| *kept < n)
    }

    /// Returns which of `n` samples to keep, in order, or `None` for all.
    pub(crate) fn kept(&self, n: usize) -> Option<Vec<usize>> {
        let limit = self.n_kept(n)?;
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
            Some(kept) => (kept.into_iter())
                .filter_map(|i| all.get(i).cloned())
                .collect(),
            None => all,
        }
    }

    /// Refuses divisors that are zero or not finite.
    pub(crate) fn check(&self) -> Result<()> {
        let is_divisor = |value: &f64| value.is_finite() && *value != 0.0;
        if !is_divisor(&self.scale)
            || !self.std.iter().all(is_divisor)
            || !self.mean.iter().all(|mean| mean.is_finite())
        {
            return Err(Error::Usage(
                "scale and std must be numbers other than 0, and mean a number".into(),
            ));
        }
        Ok(())
    }
}
