//! The places of the values of blocks in an image.

use crate::error::{Error, Result};
use crate::key::{Layout, Spec};

/// The direction: to keyed images, or back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forwards,
    Backwards,
}

/// The places of all blocks' values in an image, block by block, and by row, column, channel in
/// each.
pub(crate) fn blockwise(
    spec: &Spec,
    (layout, reversed): (Layout, bool),
    rows: usize,
    columns: usize,
) -> Result<Vec<u32>> {
    let (block, channels) = (spec.block as usize, spec.channels as usize);
    let misfit = |reason: String| Error::Array { reason };
    if !rows.is_multiple_of(block) || !columns.is_multiple_of(block) {
        return Err(misfit(format!(
            "images of {rows} rows and {columns} columns cannot be divided into blocks of {block} x {block}"
        )));
    }
    let values = rows
        .checked_mul(columns)
        .and_then(|pixels| pixels.checked_mul(channels));
    let n = values.filter(|n| *n <= u32::MAX as usize / 2);
    let n = n.ok_or_else(|| {
        misfit(format!(
            "an image of {rows} x {columns} pixels is too large"
        ))
    })?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let lies_at = |row: usize, column: usize, channel: usize| {
        let channel = match reversed {
            true => channels - 1 - channel,
            false => channel,
        };
        match layout {
            Layout::Nchw => (channel * rows + row) * columns + column,
            Layout::Nhwc => (row * columns + column) * channels + channel,
        }
    };
    let mut places = Vec::with_capacity(n);
    for (top, left) in corners(rows, columns, block) {
        for (row, column) in corners(block, block, 1) {
            let of_pixel = (0..channels).map(|channel| lies_at(top + row, left + column, channel));
            places.extend(of_pixel.map(|place| place as u32));
        }
    }
    Ok(places)
}

/// The corners of the squares of `side` that fill so many rows and columns, row by row.
fn corners(rows: usize, columns: usize, side: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = (0..rows).step_by(side);
    rows.flat_map(move |row| (0..columns).step_by(side).map(move |column| (row, column)))
}
