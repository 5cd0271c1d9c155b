//! Data sets, read whole from files of any of the formats.

use std::path::Path;

use onnxseal_store::open_regular;

use crate::array::{Array, Layout, Raw, Values, labels_of, picked};
use crate::error::{Error, Fault, Result, bad, io};
use crate::format::Format;
use crate::options::DataOptions;
use crate::{cifar, csv, folder, idx, npy};

#[derive(Clone, Debug)]
pub struct DataSet {
    pub source: String,
    pub n: usize,
    pub arrays: Vec<Array>,
    /// Labels, from 0.
    pub labels: Option<Vec<i64>>,
}

impl DataSet {
    /// Makes a data set from arrays in memory.
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
        let counted = arrays.iter().map(|array| Ok((count(array)?, array)));
        let counted = counted.collect::<Result<Vec<_>>>()?;
        let n_labels = labels.as_ref().map(Vec::len);
        let n = n_samples(&source, counted.into_iter(), n_labels)?;
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

    /// Reads the wanted samples of a data set: `.npz`, `.npy`, IDX (also gzipped), CIFAR-10 and
    /// CIFAR-100 binary (`.bin`), CSV, or a folder with one folder of PNG and JPEG images per
    /// class. `labels` is the file of labels, if the data do not contain them.
    pub fn load(path: &Path, labels: Option<&Path>, options: &DataOptions) -> Result<DataSet> {
        options.check()?;
        let raw = read(path, options)?;
        let labels = match labels {
            Some(path) => Some(read_labels(path, options)?),
            None => raw.labels,
        };
        let source = path.display().to_string();
        // Compare the files' own numbers: equal numbers may be kept of different ones.
        let counted = raw.arrays.iter().map(|(n, array)| (*n, array));
        n_samples(&source, counted, labels.as_ref().map(|(n, _)| *n))?;
        let arrays = raw.arrays.into_iter().map(|(_, array)| array).collect();
        DataSet::from_arrays(source, arrays, labels.map(|(_, labels)| labels), options)
    }

    /// Makes a data set from arrays in memory: takes the wanted samples and normalises them.
    pub fn from_arrays(
        source: String,
        arrays: Vec<Array>,
        labels: Option<Vec<i64>>,
        options: &DataOptions,
    ) -> Result<DataSet> {
        options.check()?;
        let mut data = DataSet::new(source, arrays, labels)?;
        if let Some(rows) = options.kept(data.n) {
            data.keep(&rows);
        }
        for array in &mut data.arrays {
            normalise(array, options).map_err(|fault| fault.at(Path::new(&data.source)))?;
        }
        Ok(data)
    }

    fn keep(&mut self, rows: &[usize]) {
        for array in &mut self.arrays {
            let width: usize = array.dims.iter().product();
            array.values = match &array.values {
                Values::F32(values) => Values::F32(picked(values, rows, width)),
                Values::F64(values) => Values::F64(picked(values, rows, width)),
                Values::I64(values) => Values::I64(picked(values, rows, width)),
            };
        }
        self.labels = self.labels.as_ref().map(|labels| picked(labels, rows, 1));
        self.n = rows.len();
    }
}

/// Returns the number of samples that all arrays and labels have. Arrays come with their numbers.
fn n_samples<'a>(
    source: &str,
    mut arrays: impl Iterator<Item = (usize, &'a Array)>,
    n_labels: Option<usize>,
) -> Result<usize> {
    let Some((n, _)) = arrays.next() else {
        return Err(Error::Usage(format!("{source} has no arrays")));
    };
    if let Some((other, array)) = arrays.find(|(other, _)| *other != n) {
        let name = array.name.as_deref().unwrap_or_default();
        return Err(Error::Usage(format!(
            "{source}: array {name:?} has {other} samples, another has {n}"
        )));
    }
    match n_labels {
        Some(n_labels) if n_labels != n => Err(Error::Usage(format!(
            "{source}: {n} samples and {n_labels} labels"
        ))),
        _ => Ok(n),
    }
}

fn read(path: &Path, options: &DataOptions) -> Result<Raw> {
    if path.is_dir() {
        return folder::read(path, options);
    }
    let file = open_regular(path).map_err(io(path))?;
    let raw = match Format::of(path) {
        Some(Format::Npz) => npy::read_npz(file, options),
        Some(Format::Npy) => npy::read_npy(file, options).map(Raw::from),
        Some(Format::Csv) => csv::read(file, options),
        Some(Format::Cifar) => cifar::read(file, options),
        _ => idx::read(file, options).map(Raw::from),
    };
    raw.map_err(|fault| fault.at(path))
}

/// Reads a file of labels, one number per sample. Returns the file's number of labels, of which
/// some may be dropped, and the kept ones.
fn read_labels(path: &Path, options: &DataOptions) -> Result<(usize, Vec<i64>)> {
    let file = open_regular(path).map_err(io(path))?;
    let of_array = |(n, array): (usize, Array)| Ok((n, labels_of(&array)?));
    let labels = match Format::of(path) {
        Some(Format::Npz) => npy::read_npz(file, options).and_then(|raw| match raw.labels {
            Some(labels) => Ok(labels),
            None => match <[_; 1]>::try_from(raw.arrays) {
                Ok([array]) => of_array(array),
                Err(_) => Err(bad("no array is called labels")),
            },
        }),
        Some(Format::Npy) => npy::read_npy(file, options).and_then(of_array),
        Some(Format::Csv) => csv::read_labels(file, options),
        _ => idx::read(file, options).and_then(of_array),
    };
    labels.map_err(|fault| fault.at(path))
}

/// Divides by the scale, subtracts the mean, and divides by the deviation.
fn normalise(array: &mut Array, options: &DataOptions) -> Result<(), Fault> {
    // A channel's values come `each` at a time.
    let (each, n_channels) = match (array.layout, &array.dims[..]) {
        (Some(Layout::Nchw), [channels, rows, columns]) => (rows * columns, *channels),
        (Some(Layout::Nhwc), [_, _, channels]) => (1, *channels),
        _ => (1, 1),
    };
    let scale = options.scale.unwrap_or(1.0);
    if scale == 1.0 && options.mean.is_empty() && options.std.is_empty() {
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
        let channel = i / each.max(1) % n_channels.max(1);
        ((array.values.at(i) / scale - mean[channel]) / std[channel]) as f32
    });
    array.values = Values::F32(values.collect());
    Ok(())
}

#[cfg(test)]
mod tests;
