//! Reads images of a data set for attacks.

use std::path::Path;

use onnxseal_data::{Array, DataOptions, DataSet, Layout as FileLayout};

use crate::error::{Error, Result};
use crate::key::{Layout, Order, Spec};

/// Images, channels first.
#[derive(Clone, Debug)]
pub struct ImageSet {
    /// All values, image by image.
    pub values: Vec<f64>,
    /// The number of images.
    pub n: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
}

/// The layout of images in an array.
struct Shape {
    rows: usize,
    columns: usize,
    /// Whether channels are the last axis.
    is_last: bool,
    /// Whether channels are red, green, blue while the key is for blue, green, red.
    is_reversed: bool,
}

impl Shape {
    /// Returns the layout of an array with the key's channels. Files of images state their layout;
    /// others have the key's.
    fn of(array: &Array, spec: &Spec) -> Option<Shape> {
        let of_file = array.layout.map(|layout| layout == FileLayout::Nhwc);
        let is_last = of_file.unwrap_or(spec.layout == Layout::Nhwc);
        let (channels, rows, columns) = match (&array.dims[..], is_last) {
            ([rows, columns], _) => (1, *rows, *columns),
            ([channels, rows, columns], false) | ([rows, columns, channels], true) => {
                (*channels, *rows, *columns)
            }
            _ => return None,
        };
        (channels == spec.channels as usize).then_some(Shape {
            rows,
            columns,
            is_last,
            is_reversed: of_file.is_some() && spec.order == Order::Bgr,
        })
    }
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
        let shaped = |array| Shape::of(array, spec).map(|shape| (array, shape));
        let Some((array, shape)) = data.arrays.iter().find_map(shaped) else {
            return Err(Error::Usage(format!(
                "{} has no images of {channels} channel{}: give data that the key is for",
                path.display(),
                if channels == 1 { "" } else { "s" }
            )));
        };
        let Shape { rows, columns, .. } = shape;
        let (n, size) = (data.n, channels * rows * columns);
        let at = |i: usize| {
            let (image, within) = (i / size, i % size);
            let (channel, pixel) = (within / (rows * columns), within % (rows * columns));
            let channel = if shape.is_reversed {
                channels - 1 - channel
            } else {
                channel
            };
            let at = if shape.is_last {
                pixel * channels + channel
            } else {
                channel * rows * columns + pixel
            };
            array.values.at(image * size + at)
        };
        Ok(ImageSet {
            values: (0..n * size).map(at).collect(),
            n,
            rows,
            columns,
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
