//! Folders of images, one folder per class.

use std::fs;
use std::path::{Path, PathBuf};

use crate::array::{Array, Layout, Raw, Values};
use crate::error::{Result, bad, io};
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
    let mut shape: Option<(usize, usize, usize)> = None;
    for (path, label) in options.of(files) {
        let image = images::decode(&path).map_err(|fault| fault.at(&path))?;
        // Use the channels of the first image: one if it is grey.
        let channels = match shape {
            Some((.., channels)) => channels,
            None if image.channels < 3 => 1,
            None => 3,
        };
        let pixels = sized(&image, options);
        drop(image);
        let (rows, columns) = pixels.size();
        let this = (rows, columns, channels);
        let (rows, columns, _) = *shape.get_or_insert(this);
        if (rows, columns) != (this.0, this.1) {
            return Err(bad(format!(
                "{} x {} pixels, and an image before it has {columns} x {rows}: give a size to resize to",
                this.1, this.0
            ))
            .at(&path));
        }
        let n_bytes = (labels.len() as u64 + 1)
            .saturating_mul((rows * columns * channels * size_of::<f32>()) as u64);
        if n_bytes > MAX_BYTES {
            return Err(bad(format!(
                "with it the images take {n_bytes} bytes of memory (limit {MAX_BYTES}): take fewer \
                 samples, or give a size to resize to"
            ))
            .at(&path));
        }
        let before = values.len();
        pixels.append(channels, &mut values);
        if options.bgr && channels == 3 {
            let pixels = values[before..].chunks_exact_mut(3);
            pixels.for_each(<[f32]>::reverse);
        }
        labels.push(label);
    }
    let (rows, columns, channels) =
        shape.ok_or_else(|| bad("no images (.png, .jpg, .jpeg) in its folders").at(folder))?;
    let dims = vec![rows, columns, channels];
    let array = Array {
        name: None,
        dims,
        values: Values::F32(values),
        layout: Some(Layout::Nhwc),
    };
    Ok(Raw {
        arrays: vec![(n, array)],
        labels: Some((n, labels)),
    })
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
    let classes: Vec<PathBuf> = list(folder)?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    let number = |path: &PathBuf| {
        path.file_name()?
            .to_str()?
            .parse::<u32>()
            .ok()
            .map(i64::from)
    };
    let numbers: Option<Vec<i64>> = classes.iter().map(number).collect();
    let mut found = Vec::new();
    for (i, class) in classes.iter().enumerate() {
        let label = numbers
            .as_ref()
            .and_then(|numbers| numbers.get(i).copied())
            .unwrap_or(i as i64);
        found.extend(
            list(class)?
                .into_iter()
                .filter(|path| is_image(path))
                .map(|path| (path, label)),
        );
    }
    Ok(found)
}

/// Resizes an image, and crops the middle.
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
