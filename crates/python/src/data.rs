//! Samples as callers give them: files, or arrays of numpy.

use std::path::PathBuf;

use onnxseal_data::{Array, DataOptions, DataSet, Layout, Resize, Values};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::errors::{Result, usage};
use crate::keywords::Keywords;

/// Samples as callers give them.
pub enum Data {
    None,
    Files(PathBuf, Option<PathBuf>),
    Arrays(Vec<Array>, Option<Vec<i64>>),
}

impl Data {
    /// Takes the arguments `data` and `labels`.
    pub fn of(keywords: &Keywords<'_>) -> Result<Data> {
        let data: Option<Bound<'_, PyAny>> = keywords.get("data")?;
        let labels: Option<Bound<'_, PyAny>> = keywords.get("labels")?;
        let Some(data) = data else {
            return match labels {
                None => Ok(Data::None),
                Some(_) => Err(usage("labels are given, and no data")),
            };
        };
        let Ok(arrays) = data.cast::<PyDict>() else {
            let path = keywords.read("data").map_err(|_| {
                PyTypeError::new_err("data are a path, or a dict of arrays by the names of inputs")
            })?;
            return Ok(Data::Files(path, keywords.read("labels")?));
        };
        let array = |(name, values): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<Array> {
            let (shape, values) = numbers(&values)?;
            Ok(Array {
                name: Some(name.cast::<PyString>()?.to_string()),
                dims: shape.get(1..).unwrap_or_default().to_vec(),
                values,
                layout: None,
            })
        };
        let arrays = arrays.iter().map(array).collect::<PyResult<_>>()?;
        let labels = labels.map(|labels| match numbers(&labels)? {
            (_, Values::I64(labels)) => Ok(labels),
            _ => Err(PyTypeError::new_err("labels are whole numbers")),
        });
        Ok(Data::Arrays(arrays, labels.transpose()?))
    }

    /// Reads the samples.
    pub fn read(self, how: &DataOptions) -> Result<Option<DataSet>> {
        Ok(match self {
            Data::None => None,
            Data::Files(path, labels) => Some(DataSet::load(&path, labels.as_deref(), how)?),
            Data::Arrays(arrays, labels) => Some(DataSet::from_arrays(
                "arrays".to_owned(),
                arrays,
                labels,
                how,
            )?),
        })
    }
}

/// Shape and numbers of a value that numpy can make an array of.
fn numbers(value: &Bound<'_, PyAny>) -> PyResult<(Vec<usize>, Values)> {
    let py = value.py();
    let array = py.import("numpy")?.call_method1("asarray", (value,))?;
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    let size: usize = array.getattr("dtype")?.getattr("itemsize")?.extract()?;
    let wanted = match (kind.as_str(), size) {
        ("f", 8) => "<f8",
        ("f", _) => "<f4",
        ("i" | "u" | "b", _) => "<i8",
        _ => return Err(PyTypeError::new_err("arrays have numbers")),
    };
    let shape = array.getattr("shape")?.extract()?;
    let bytes = array
        .call_method1("astype", (wanted,))?
        .call_method0("tobytes")?;
    let bytes = bytes.cast::<PyBytes>()?.as_bytes();
    let values = match wanted {
        "<f8" => Values::F64(each(bytes, f64::from_le_bytes)),
        "<f4" => Values::F32(each(bytes, f32::from_le_bytes)),
        _ => Values::I64(each(bytes, i64::from_le_bytes)),
    };
    Ok((shape, values))
}

/// Reads numbers of `N` bytes, one after the other.
fn each<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().copied().map(read).collect()
}

/// An array of one axis.
pub fn from_bytes<'py>(
    py: Python<'py>,
    bytes: &[u8],
    data_type: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let numpy = py.import("numpy")?;
    numpy.call_method1("frombuffer", (PyBytes::new(py, bytes), data_type))
}

/// Takes the arguments that say how samples are made ready for the model.
pub fn preparation(keywords: &Keywords<'_>) -> Result<DataOptions> {
    let is_set = |name: &str| -> PyResult<bool> {
        Ok(keywords.get::<Option<bool>>(name)?.unwrap_or_default())
    };
    let layout: Option<String> = keywords.get("layout")?;
    let mut how = DataOptions::default();
    how.layout = layout.as_deref().map(axes).transpose()?;
    (how.mean, how.std) = (keywords.several("mean")?, keywords.several("std")?);
    (how.bgr, how.label_first) = (is_set("bgr")?, is_set("label_first")?);
    how.scale = keywords.get("scale")?;
    how.resize = keywords
        .get::<Option<Sides>>("resize")?
        .map(|sides| match sides {
            Sides::One(n) => Resize::Shorter(n),
            Sides::Two(width, height) => Resize::To(width, height),
        });
    how.crop = keywords
        .get::<Option<Sides>>("crop")?
        .map(|sides| match sides {
            Sides::One(n) => (n, n),
            Sides::Two(width, height) => (width, height),
        });
    (how.limit, how.seed) = (keywords.get("limit")?, keywords.get("seed")?);
    Ok(how)
}

fn axes(name: &str) -> Result<Layout> {
    match name {
        "nchw" => Ok(Layout::Nchw),
        "nhwc" => Ok(Layout::Nhwc),
        _ => Err(usage(format!("layout {name:?} is neither nchw nor nhwc"))),
    }
}

/// The sides of an image: one number, or columns and rows.
#[derive(FromPyObject)]
pub enum Sides {
    /// One number for both sides, or for the shorter.
    One(u32),
    /// Columns and rows.
    Two(u32, u32),
}
