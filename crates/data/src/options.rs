//! Options of reading.

use rand::seq::index;

use crate::array::Layout;
use crate::error::{Error, Result};
use crate::random::rng;
use crate::rows::Rows;

/// How data are read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DataOptions {
    /// Whether all images below a folder are taken, in the order of their paths, as no labels are needed.
    pub unlabelled: bool,
    /// The order of axes that the model takes images in; absent, its input's shape tells.
    pub layout: Option<Layout>,
    /// Whether channels go blue, green, red.
    pub bgr: bool,
    /// The divisor of all values, before `mean` and `std`.
    pub scale: f64,
    /// The mean, which is then subtracted: one number, or one a channel.
    pub mean: Vec<f64>,
    /// The deviation, the divisor after that: one number, or one a channel.
    pub std: Vec<f64>,
    /// The size that images of a folder are brought to.
    pub resize: Option<Resize>,
    /// The middle of so many columns and rows is then cut out.
    pub crop: Option<(u32, u32)>,
    /// Samples, at most: drawn by `seed` where there are more.
    pub limit: Option<usize>,
    /// Whether the first samples are taken up to the limit, and none are drawn.
    pub first: bool,
    /// By which samples are drawn.
    pub seed: u64,
    /// Of CSV: whether the first column is the label. Otherwise the column `label` is.
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

/// The size that an image is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Columns and rows.
    To(u32, u32),
    /// The shorter side; the other in proportion.
    Shorter(u32),
}

impl DataOptions {
    /// The samples of a file that has `n`.
    pub(crate) fn rows(&self, n: usize) -> Rows {
        Rows {
            n,
            kept: self.kept(n),
        }
    }

    /// Those of `n` samples that are kept, in their order; absent where all are.
    pub(crate) fn kept(&self, n: usize) -> Option<Vec<usize>> {
        let limit = self.limit?.max(1);
        if n <= limit {
            return None;
        }
        if self.first {
            return Some((0..limit).collect());
        }
        // Takes memory for those drawn, not for all that there are.
        let mut kept = index::sample(&mut rng(self.seed, "limit"), n, limit).into_vec();
        kept.sort_unstable();
        Some(kept)
    }

    /// Those of `all` samples that are kept, in their order.
    pub(crate) fn of<T: Clone>(&self, all: Vec<T>) -> Vec<T> {
        match self.kept(all.len()) {
            Some(kept) => (kept.into_iter())
                .filter_map(|i| all.get(i).cloned())
                .collect(),
            None => all,
        }
    }

    /// Refuses numbers that nothing can be divided by.
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
