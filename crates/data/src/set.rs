//! Data sets, read whole from files of any of the formats.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::array::{Array, Layout, Raw, Values, labels_of};
use crate::error::{Error, Fault, Result, bad, io};
use crate::names::extension;
use crate::options::DataOptions;
use crate::random::{rng, shuffled};
use crate::{cifar, csv, folder, idx, npy};

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
    /// [`Error::Io`], [`Error::Malformed`]; [`Error::Usage`] where data and labels do not go together.
    pub fn load(path: &Path, labels: Option<&Path>, options: &DataOptions) -> Result<DataSet> {
        options.check()?;
        let (arrays, own_labels) = read(path, options)?;
        let labels = match labels {
            Some(path) => Some(read_labels(path)?),
            None => own_labels,
        };
        DataSet::from_arrays(path.display().to_string(), arrays, labels, options)
    }

    /// Takes arrays that are in memory as a data set: as many samples as wanted, normalised.
    ///
    /// # Errors
    /// As [`DataSet::new`] and [`DataSet::load`].
    pub fn from_arrays(
        source: String,
        arrays: Vec<Array>,
        labels: Option<Vec<i64>>,
        options: &DataOptions,
    ) -> Result<DataSet> {
        options.check()?;
        let mut data = DataSet::new(source, arrays, labels)?;
        if let Some(limit) = options.limit {
            data.keep(limit, options.seed);
        }
        for array in &mut data.arrays {
            normalise(array, options).map_err(|fault| fault.at(Path::new(&data.source)))?;
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

fn read(path: &Path, options: &DataOptions) -> Result<Raw> {
    if path.is_dir() {
        return folder::read(path, options);
    }
    let file = File::open(path).map_err(io(path))?;
    let raw = match extension(path).as_deref() {
        Some("npz") => npy::read_npz(file),
        Some("npy") => npy::read_npy(file).map(unlabelled),
        Some("csv") => csv::read(file, options.label_first),
        Some("bin") => cifar::read(file),
        _ => read_idx(file).map(unlabelled),
    };
    raw.map_err(|fault| fault.at(path))
}

fn unlabelled(array: Array) -> Raw {
    (vec![array], None)
}

/// Reads IDX, which no name tells.
fn read_idx(mut file: File) -> Result<Array, Fault> {
    let mut first = Vec::new();
    (&mut file).take(4).read_to_end(&mut first)?;
    if !idx::is_idx(&first) {
        return Err(bad(
            "not a data set by its name (.npz, .npy, .csv, .bin) or its first bytes (IDX, gzipped or not), and no folder",
        ));
    }
    idx::read(first.as_slice().chain(file))
}

/// Reads a file of labels: one number a sample.
fn read_labels(path: &Path) -> Result<Vec<i64>> {
    let file = File::open(path).map_err(io(path))?;
    let labels = match extension(path).as_deref() {
        Some("npz") => npy::read_npz(file).and_then(|raw| match raw {
            (_, Some(labels)) => Ok(labels),
            (arrays, None) => match &arrays[..] {
                [array] => labels_of(array),
                _ => Err(bad("no array is called labels")),
            },
        }),
        Some("npy") => npy::read_npy(file).and_then(|array| labels_of(&array)),
        Some("csv") => csv::read_labels(file),
        _ => idx::read(file).and_then(|array| labels_of(&array)),
    };
    labels.map_err(|fault| fault.at(path))
}

/// Divides by the scale, subtracts the mean, divides by the deviation.
fn normalise(array: &mut Array, options: &DataOptions) -> Result<(), Fault> {
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
        n => Err(bad(format!(
            "{what} has {n} numbers for {n_channels} channels"
        ))),
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

#[cfg(test)]
mod tests;
