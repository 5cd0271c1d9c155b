//! Folders of images, one folder per class.

use std::fs;
use std::path::{Path, PathBuf};

use crate::array::{Array, Layout, Raw, Values};
use crate::error::{Fault, Result, bad, io};
use crate::format::Format;
use crate::images::{self, Image, MAX_SIDE};
use crate::options::{DataOptions, Resize};
use crate::pixels::Pixels;
use crate::room::MAX_BYTES;

pub(crate) fn read(folder: &Path, options: &DataOptions) -> Result<Raw> {
    let files = if options.unlabelled {
        below(folder)?
    } else {
        files(folder)?
    };
    let n = files.len();
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let mut shape = None;
    for (path, label) in options.of(files) {
        let added = add(&path, options, &mut shape, &mut values);
        added.map_err(|fault| fault.at(&path))?;
        labels.push(label);
    }
    let dims =
        shape.ok_or_else(|| bad("no images (.png, .jpg, .jpeg) in its folders").at(folder))?;
    let array = Array {
        name: None,
        dims: dims.to_vec(),
        values: Values::F32(values),
        layout: Some(Layout::Nhwc),
    };
    Ok(Raw {
        arrays: vec![(n, array)],
        labels: Some((n, labels)),
    })
}

/// Appends the pixels of an image to those of the images before, which have the same `shape`: rows,
/// columns and channels.
fn add(
    path: &Path,
    options: &DataOptions,
    shape: &mut Option<[usize; 3]>,
    values: &mut Vec<f32>,
) -> Result<(), Fault> {
    let image = images::decode(path)?;
    // Use the channels of the first image: one if it is grey.
    let of_first = if image.channels < 3 { 1 } else { 3 };
    let channels = shape.map_or(of_first, |[.., channels]| channels);
    let pixels = sized(&image, options);
    drop(image);
    let (rows, columns) = pixels.size();
    let [down, across, _] = *shape.get_or_insert([rows, columns, channels]);
    if (rows, columns) != (down, across) {
        return Err(bad(format!(
            "{columns} x {rows} pixels, and an image before it has {across} x {down}: give a size to resize to"
        )));
    }
    let n_values = (values.len() as u64).saturating_add((rows * columns * channels) as u64);
    let n_bytes = n_values.saturating_mul(size_of::<f32>() as u64);
    if n_bytes > MAX_BYTES {
        return Err(bad(format!(
            "with it the images take {n_bytes} bytes of memory (limit {MAX_BYTES}): take fewer \
             samples, or give a size to resize to"
        )));
    }
    let first = values.len();
    pixels.append(channels, values);
    if options.bgr && channels == 3 {
        let pixels = values[first..].chunks_exact_mut(3);
        pixels.for_each(<[f32]>::reverse);
    }
    Ok(())
}

/// Lists the entries of a folder, in the order of names.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(io(folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(io(folder))?;
    paths.sort();
    Ok(paths)
}

/// Lists all images in a folder and the folders below it, as one class.
fn below(folder: &Path) -> Result<Vec<(PathBuf, i64)>> {
    let mut found = Vec::new();
    for path in list(folder)? {
        // Do not follow links to folders, which may lead back.
        if path.is_dir() && !path.is_symlink() {
            found.extend(below(&path)?);
        } else if is_image(&path) {
            found.push((path, 0));
        }
    }
    Ok(found)
}

fn is_image(path: &Path) -> bool {
    Format::of(path).is_some_and(Format::is_image)
}

/// Lists the images, each with its class: the folder's name if all names are numbers, or else the
/// folder's position.
fn files(folder: &Path) -> Result<Vec<(PathBuf, i64)>> {
    let mut classes = list(folder)?;
    classes.retain(|path| path.is_dir());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let numbers = classes.iter().map(|path| number(path).map(i64::from));
    let numbers: Option<Vec<i64>> = numbers.collect();
    let labels = numbers.unwrap_or_else(|| (0..classes.len() as i64).collect());
    let mut found = Vec::new();
    for (class, label) in classes.iter().zip(labels) {
        let images = list(class)?.into_iter().filter(|path| is_image(path));
        found.extend(images.map(|path| (path, label)));
    }
    Ok(found)
}

fn sized(image: &Image, options: &DataOptions) -> Pixels {
    let (rows, columns) = match options.resize {
        None => (image.rows, image.columns),
        Some(Resize::To(columns, rows)) => (rows.clamp(1, MAX_SIDE), columns.clamp(1, MAX_SIDE)),
        Some(Resize::Shorter(side)) => {
            let side = f64::from(side.clamp(1, MAX_SIDE));
            let factor = side / f64::from(image.rows.min(image.columns).max(1));
            let scaled = |n: u32| ((f64::from(n) * factor).round() as u32).clamp(1, MAX_SIDE);
            (scaled(image.rows), scaled(image.columns))
        }
    };
    let mut pixels = Pixels::of(image, rows, columns);
    if let Some((columns, rows)) = options.crop {
        pixels.crop(rows, columns);
    }
    pixels
}
