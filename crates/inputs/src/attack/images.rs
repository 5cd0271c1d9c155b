//! Reads images of a data set for attacks.

use std::path::Path;

use onnxseal_data::{Array, DataOptions, DataSet, Layout as FileLayout};

use crate::error::{Error, Result};
use crate::key::{Layout, Order, Spec};

/// Images of one size.
#[derive(Clone, Debug)]
pub struct ImageSet {
    pub values: Vec<f64>,
    pub n: usize,
    pub rows: usize,
    pub columns: usize,
    /// The order of axes, and whether channels are red, green, blue while the key is for blue,
    /// green, red.
    pub order: (Layout, bool),
}

impl ImageSet {
    /// Reads the first `limit` images with the key's channels from the data set at `path`.
    pub fn read(path: &Path, spec: &Spec, limit: usize) -> Result<ImageSet> {
        let mut options = DataOptions::default();
        options.unlabelled = true;
        options.limit = Some(limit);
        options.first = true;
        let data = DataSet::load(path, None, &options)?;
        let channels = spec.channels as usize;
        data.arrays
            .iter()
            .find_map(|array| ImageSet::of(array, data.n, spec))
            .ok_or_else(|| {
                Error::Usage(format!(
                    "{} has no images of {channels} channel{}: give data that the key is for",
                    path.display(),
                    if channels == 1 { "" } else { "s" }
                ))
            })
    }

    /// Returns the images of an array with the key's channels. Files of images state their layout;
    /// others have the key's.
    fn of(array: &Array, n: usize, spec: &Spec) -> Option<ImageSet> {
        let layout = match array.layout {
            Some(FileLayout::Nchw) => Layout::Nchw,
            Some(FileLayout::Nhwc) => Layout::Nhwc,
            None => spec.layout,
        };
        let (channels, rows, columns) = match (&array.dims[..], layout) {
            ([rows, columns], _) => (1, *rows, *columns),
            ([a, b, c], Layout::Nchw) => (*a, *b, *c),
            ([a, b, c], Layout::Nhwc) => (*c, *a, *b),
            _ => return None,
        };
        (channels == spec.channels as usize).then(|| ImageSet {
            values: (0..array.values.len())
                .map(|i| array.values.at(i))
                .collect(),
            n,
            rows,
            columns,
            order: (layout, array.layout.is_some() && spec.order == Order::Bgr),
        })
    }

    /// Returns the sum of a value and its negative: 255 for integers of 8 bits, or that of the
    /// key's range for floats.
    pub fn sum(&self, spec: &Spec) -> f64 {
        let most = self.values.iter().copied().fold(f64::MIN, f64::max);
        if most > spec.range.1 {
            255.0
        } else {
            spec.sum()
        }
    }
}
