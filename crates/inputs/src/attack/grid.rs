//! Images cut into blocks.

use crate::error::{Error, Result};

/// Images for an attack: `[n, channels, rows, columns]`, contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Pictures<'p> {
    /// The values.
    pub values: &'p [f64],
    /// The number of images.
    pub n: usize,
    /// Channels of each.
    pub channels: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub columns: usize,
}

/// Blocks of images: `[images, rows of blocks, columns of blocks, values of a block]`.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) values: Vec<f64>,
    /// Images, rows and columns of blocks.
    pub(super) shape: [usize; 3],
    pub(super) n_values: usize,
    pub(super) block: usize,
    pub(super) channels: usize,
}

impl Grid {
    pub(super) fn new(pictures: &Pictures<'_>, block: u32) -> Result<Grid> {
        let side = block as usize;
        let divides =
            side > 0 && pictures.rows.is_multiple_of(side) && pictures.columns.is_multiple_of(side);
        if !divides {
            return Err(Error::Usage(format!(
                "blocks of {side} x {side} do not divide images of {} x {}",
                pictures.rows, pictures.columns
            )));
        }
        Grid::at(pictures, side, (0, 0))
    }

    /// Cuts images into blocks from an offset on, and drops the rest at the ends.
    pub(super) fn at(
        pictures: &Pictures<'_>,
        block: usize,
        (top, left): (usize, usize),
    ) -> Result<Grid> {
        let &Pictures {
            values,
            n,
            channels,
            rows,
            columns,
        } = pictures;
        let expected = [n, channels, rows, columns]
            .iter()
            .try_fold(1_usize, |product, dim| product.checked_mul(*dim));
        if expected != Some(values.len()) || channels == 0 {
            return Err(Error::Usage(
                "images have as many values as their shape says".into(),
            ));
        }
        let (down, across) = (
            rows.saturating_sub(top) / block,
            columns.saturating_sub(left) / block,
        );
        let n_values = block * block * channels;
        let mut blocks = Vec::with_capacity(n * down * across * n_values);
        for image in values.chunks_exact((channels * rows * columns).max(1)) {
            for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
                for (r, c) in (0..block).flat_map(|r| (0..block).map(move |c| (r, c))) {
                    let at = (top + y * block + r) * columns + left + x * block + c;
                    blocks.extend(
                        (0..channels)
                            .filter_map(|channel| image.get(channel * rows * columns + at)),
                    );
                }
            }
        }
        Ok(Grid {
            values: blocks,
            shape: [n, down, across],
            n_values,
            block,
            channels,
        })
    }

    /// Returns the values of a block.
    pub(super) fn block_at(&self, image: usize, row: usize, column: usize) -> &[f64] {
        let [_, rows, columns] = self.shape;
        let start = ((image * rows + row) * columns + column) * self.n_values;
        self.values
            .get(start..start + self.n_values)
            .unwrap_or_default()
    }
}
