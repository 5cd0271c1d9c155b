//! Data sets, read from files of usual formats and fitted to a model's inputs.

mod cifar;
mod fit;
mod idx;
mod images;
mod npy;
mod table;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use fit::{fit, random};
pub use npy::{Stored, npz, write_npz};

use crate::engine::Values;
use crate::error::{Error, Result, bad, io};
use crate::random::{rng, shuffled};

/// Bytes of a data set in memory, at most.
const MAX_BYTES: u64 = 16 << 30;

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
    /// What values are divided by, before `mean` and `std`.
    pub scale: f64,
    /// What is then subtracted: one number, or one a channel.
    pub mean: Vec<f64>,
    /// What they are then divided by: one number, or one a channel.
    pub std: Vec<f64>,
    /// The size that images of a folder are brought to.
    pub resize: Option<Resize>,
    /// The middle of so many columns and rows is then cut out.
    pub crop: Option<(u32, u32)>,
    /// Samples, at most: drawn by `seed` where there are more.
    pub limit: Option<usize>,
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
            seed: 0,
            label_first: false,
        }
    }
}

/// The order of an image's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels, rows, columns.
    Nchw,
    /// Rows, columns, channels.
    Nhwc,
}

/// The size that an image is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Columns and rows.
    To(u32, u32),
    /// The shorter side; the other in proportion.
    Shorter(u32),
}

/// One array of a data set, all samples.
#[derive(Clone, Debug)]
pub struct Array {
    /// Its name, where it has one: that of the input it is for.
    pub name: Option<String>,
    /// Shape of one sample.
    pub dims: Vec<usize>,
    /// All samples, one after the other.
    pub values: Values,
    /// The order of axes, where samples are images.
    pub layout: Option<Layout>,
}

/// A data set.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// What it is called.
    pub source: String,
    /// Number of samples.
    pub n: usize,
    /// The arrays.
    pub arrays: Vec<Array>,
    /// Labels, from 0.
    pub labels: Option<Vec<i64>>,
}

impl DataSet {
    /// Makes a data set of arrays that are in memory.
    ///
    /// # Errors
    /// [`Error::Usage`] where there are no samples, or arrays differ in their number.
    pub fn new(source: String, arrays: Vec<Array>, labels: Option<Vec<i64>>) -> Result<DataSet> {
        let count = |array: &Array| {
            let width = array
                .dims
                .iter()
                .try_fold(1_usize, |product, dim| product.checked_mul(*dim));
            match width {
                Some(width @ 1..) if array.values.len().is_multiple_of(width) => {
                    Ok(array.values.len() / width)
                }
                _ => Err(Error::Usage(format!(
                    "{source}: {} numbers are no samples of shape {:?}",
                    array.values.len(),
                    array.dims
                ))),
            }
        };
        let n = match arrays.first() {
            Some(array) => count(array)?,
            None => return Err(Error::Usage(format!("{source} has no arrays"))),
        };
        for array in &arrays {
            let other = count(array)?;
            if other != n {
                let name = array.name.as_deref().unwrap_or_default();
                return Err(Error::Usage(format!(
                    "{source}: array {name:?} has {other} samples, another has {n}"
                )));
            }
        }
        if let Some(labels) = &labels
            && labels.len() != n
        {
            return Err(Error::Usage(format!(
                "{source}: {n} samples and {} labels",
                labels.len()
            )));
        }
        if n == 0 {
            return Err(Error::Usage(format!("{source} has no samples")));
        }
        Ok(DataSet {
            source,
            n,
            arrays,
            labels,
        })
    }

    /// Reads a data set: `.npz`, `.npy`, IDX (also gzipped), CIFAR-10 and CIFAR-100 binary (`.bin`), CSV, or a folder with
    /// one folder of PNG and JPEG images a class. `labels` is the file of labels, where data have none of their own.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Data`]; [`Error::Usage`] where data and labels do not go together.
    pub fn load(path: &Path, labels: Option<&Path>, options: &DataOptions) -> Result<DataSet> {
        check(options)?;
        let (arrays, own_labels) = read(path, options)?;
        let labels = match labels {
            Some(path) => Some(read_labels(path)?),
            None => own_labels,
        };
        DataSet::from_arrays(path.display().to_string(), arrays, labels, options)
    }

    /// The same of arrays that are in memory: takes as many samples as wanted, and normalises them.
    ///
    /// # Errors
    /// As [`DataSet::new`] and [`DataSet::load`].
    pub fn from_arrays(
        source: String,
        arrays: Vec<Array>,
        labels: Option<Vec<i64>>,
        options: &DataOptions,
    ) -> Result<DataSet> {
        check(options)?;
        let mut data = DataSet::new(source, arrays, labels)?;
        if let Some(limit) = options.limit {
            data.keep(limit, options.seed);
        }
        for array in &mut data.arrays {
            normalise(Path::new(&data.source), array, options)?;
        }
        Ok(data)
    }

    /// Keeps `limit` samples, drawn by `seed`, in their order.
    fn keep(&mut self, limit: usize, seed: u64) {
        if self.n <= limit.max(1) {
            return;
        }
        let mut rows = shuffled(self.n, &mut rng(seed, "limit"));
        rows.truncate(limit.max(1));
        rows.sort_unstable();
        for array in &mut self.arrays {
            let width: usize = array.dims.iter().product();
            array.values = match &array.values {
                Values::F32(values) => Values::F32(picked(values, &rows, width)),
                Values::F64(values) => Values::F64(picked(values, &rows, width)),
                Values::I64(values) => Values::I64(picked(values, &rows, width)),
            };
        }
        self.labels = self.labels.as_ref().map(|labels| picked(labels, &rows, 1));
        self.n = rows.len();
    }
}

fn picked<T: Copy>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
    let row = |row: &usize| {
        values
            .get(row * width..(row + 1) * width)
            .unwrap_or_default()
    };
    rows.iter().flat_map(row).copied().collect()
}

fn check(options: &DataOptions) -> Result<()> {
    let is_divisor = |value: &f64| value.is_finite() && *value != 0.0;
    if !is_divisor(&options.scale)
        || !options.std.iter().all(is_divisor)
        || !options.mean.iter().all(|mean| mean.is_finite())
    {
        return Err(Error::Usage(
            "scale and std must be numbers other than 0, and mean a number".into(),
        ));
    }
    Ok(())
}

type Raw = (Vec<Array>, Option<Vec<i64>>);

fn read(path: &Path, options: &DataOptions) -> Result<Raw> {
    if path.is_dir() {
        return images::read(path, options);
    }
    let extension = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("npz") => npy::read_npz(path),
        Some("npy") => Ok((vec![npy::read_npy(path)?], None)),
        Some("csv") => table::read(path, options.label_first),
        Some("bin") => cifar::read(path),
        _ if idx::is_idx(path)? => Ok((vec![idx::read(path)?], None)),
        _ => Err(bad(
            path,
            "not a data set by its name (.npz, .npy, .csv, .bin) or its first bytes (IDX, gzipped or not), and no folder",
        )),
    }
}

/// Reads a file of labels: one number a sample.
fn read_labels(path: &Path) -> Result<Vec<i64>> {
    let extension = path
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase());
    let array = match extension.as_deref() {
        Some("npz") => {
            let (mut arrays, labels) = npy::read_npz(path)?;
            match (labels, arrays.len()) {
                (Some(labels), _) => return Ok(labels),
                (None, 1) => arrays.remove(0),
                _ => return Err(bad(path, "no array is called labels")),
            }
        }
        Some("npy") => npy::read_npy(path)?,
        Some("csv") => return table::read_labels(path),
        _ => idx::read(path)?,
    };
    labels_of(path, &array)
}

/// An array as labels.
fn labels_of(path: &Path, array: &Array) -> Result<Vec<i64>> {
    if array.dims.iter().product::<usize>() != 1 {
        return Err(bad(
            path,
            format!("labels have one number a sample, not {:?}", array.dims),
        ));
    }
    let label = |i: usize| {
        let value = array.values.at(i);
        match value.fract() == 0.0 && value.abs() < 1e15 {
            true => Ok(value as i64),
            false => Err(bad(
                path,
                format!("label {value} of row {i} is no whole number"),
            )),
        }
    };
    (0..array.values.len()).map(label).collect()
}

/// Divides by the scale, subtracts the mean, divides by the deviation.
fn normalise(path: &Path, array: &mut Array, options: &DataOptions) -> Result<()> {
    let channel: Box<dyn Fn(usize) -> usize> = match (array.layout, &array.dims[..]) {
        (Some(Layout::Nchw), [channels, rows, columns]) => {
            let (channels, each) = (*channels, rows * columns);
            Box::new(move |i| i / each.max(1) % channels.max(1))
        }
        (Some(Layout::Nhwc), [_, _, channels]) => {
            let channels = *channels;
            Box::new(move |i| i % channels.max(1))
        }
        _ => Box::new(|_| 0),
    };
    let n_channels = match (array.layout, &array.dims[..]) {
        (Some(Layout::Nchw), [channels, ..]) | (Some(Layout::Nhwc), [_, _, channels]) => *channels,
        _ => 1,
    };
    if options.scale == 1.0 && options.mean.is_empty() && options.std.is_empty() {
        return Ok(());
    }
    let of_channels = |numbers: &[f64], otherwise: f64, what: &str| match numbers.len() {
        0 => Ok(vec![otherwise; n_channels]),
        1 => Ok(vec![numbers[0]; n_channels]),
        n if n == n_channels => Ok(numbers.to_vec()),
        n => Err(bad(
            path,
            format!("{what} has {n} numbers for {n_channels} channels"),
        )),
    };
    let mean = of_channels(&options.mean, 0.0, "mean")?;
    let std = of_channels(&options.std, 1.0, "std")?;
    let values = (0..array.values.len()).map(|i| {
        let channel = channel(i);
        ((array.values.at(i) / options.scale - mean[channel]) / std[channel]) as f32
    });
    array.values = Values::F32(values.collect());
    Ok(())
}

/// Reads `n_bytes`, and claims no more memory than there are.
fn read_exactly(path: &Path, from: impl Read, n_bytes: u64) -> Result<Vec<u8>> {
    if n_bytes > MAX_BYTES {
        return Err(bad(
            path,
            format!("it says that it has {n_bytes} bytes of numbers (limit {MAX_BYTES})"),
        ));
    }
    let mut bytes = Vec::new();
    from.take(n_bytes)
        .read_to_end(&mut bytes)
        .map_err(io(path))?;
    if (bytes.len() as u64) < n_bytes {
        return Err(bad(
            path,
            format!(
                "it ends after {} of {n_bytes} bytes of numbers",
                bytes.len()
            ),
        ));
    }
    Ok(bytes)
}

/// What is wrong with the file at `path`.
fn of_format(path: &Path) -> impl FnOnce(onnxseal_data::Error) -> Error + '_ {
    move |error| match error {
        onnxseal_data::Error::Io(source) => io(path)(source),
        other => bad(path, other.to_string()),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(io(path))
}

#[cfg(test)]
mod tests;
