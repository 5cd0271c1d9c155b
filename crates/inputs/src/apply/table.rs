//! The source of each value of an image.

use onnxseal_store::parallel::for_each;

use crate::error::{Error, Result};
use crate::key::{Layout, Spec};

/// The approximate values that a core works on at once.
const JOB_VALUES: usize = 1 << 17;

/// The direction: to keyed images, or back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forwards,
    Backwards,
}

/// The geometry of images of one size, and where their values come from.
pub(super) struct Table {
    /// The order of axes, and whether that of channels is reversed.
    pub(super) order: (Layout, bool),
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Values of an image.
    pub(super) n: usize,
    /// For each value of a keyed image, its place in a plain one, plus `n` if it is masked.
    sources: Vec<u32>,
}

/// The work of a core on one image after the other.
pub(super) trait Work<A, B> {
    fn take(&mut self, image: &[A]) -> Result<()>;

    fn give(&mut self, image: &mut [B]) -> Result<()>;
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
    let side = || 0..block;
    let mut first = Vec::with_capacity(spec.block_values());
    for (row, column) in side().flat_map(|row| side().map(move |column| (row, column))) {
        first.extend((0..channels).map(|channel| lies_at(row, column, channel) as u32));
    }
    let mut places = Vec::with_capacity(n);
    for row in (0..rows).step_by(block) {
        for column in (0..columns).step_by(block) {
            // A block begins as far after the first one for each channel.
            let begin = (lies_at(row, column, 0) - lies_at(0, 0, 0)) as u32;
            places.extend(first.iter().map(|place| place + begin));
        }
    }
    Ok(places)
}

impl Table {
    /// `blockwise` has the places of an image's values; `places` and `masked` are the key's for one
    /// block.
    pub(super) fn new(
        order: (Layout, bool),
        (rows, columns): (usize, usize),
        blockwise: &[u32],
        (places, masked): (&[u32], &[bool]),
    ) -> Table {
        let (n, size) = (blockwise.len(), places.len().max(1));
        let of_block: Vec<(usize, u32)> = places
            .iter()
            .zip(masked)
            .map(|(from, masked)| (*from as usize, u32::from(*masked) * n as u32))
            .collect();
        let mut sources = vec![0; n];
        for block in blockwise.chunks_exact(size) {
            for (to, (place, masked)) in block.iter().zip(&of_block) {
                sources[*to as usize] = block[*place] + masked;
            }
        }
        Table {
            order,
            rows,
            columns,
            n,
            sources,
        }
    }

    /// Looks up each value of an image in `values`: those of the other image, followed by the masked
    /// ones, if any are.
    pub(super) fn look_up<T: Copy>(&self, direction: Direction, values: &[T], to: &mut [T]) {
        match direction {
            Direction::Forwards => {
                for (to, source) in to.iter_mut().zip(&self.sources) {
                    *to = values[*source as usize];
                }
            }
            Direction::Backwards => {
                for (i, source) in self.sources.iter().enumerate() {
                    let source = *source as usize;
                    let masked = if source < self.n { 0 } else { self.n };
                    to[source - masked] = values[i + masked];
                }
            }
        }
    }

    /// Works on images on all cores.
    pub(super) fn between<A: Sync, B: Send, W: Work<A, B>>(
        &self,
        from: &[A],
        to: &mut [B],
        worker: impl Fn() -> W + Sync,
    ) -> Result<()> {
        let (n, each) = self.job();
        let jobs = from.chunks(each).zip(to.chunks_mut(each));
        let n_jobs = from.len().div_ceil(each) as u64;
        for_each(false, n_jobs, jobs, worker, |worker, (from, to)| {
            for (from, to) in from.chunks_exact(n).zip(to.chunks_exact_mut(n)) {
                worker.take(from)?;
                worker.give(to)?;
            }
            Ok(())
        })
    }

    /// Works on images in place, on all cores.
    pub(super) fn within<T: Send, W: Work<T, T>>(
        &self,
        images: &mut [T],
        worker: impl Fn() -> W + Sync,
    ) -> Result<()> {
        let (n, each) = self.job();
        let n_jobs = images.len().div_ceil(each) as u64;
        let jobs = images.chunks_mut(each);
        for_each(false, n_jobs, jobs, worker, |worker, images| {
            for image in images.chunks_exact_mut(n) {
                worker.take(image)?;
                worker.give(image)?;
            }
            Ok(())
        })
    }

    /// Returns the values of an image, and those of a core's images.
    fn job(&self) -> (usize, usize) {
        let n = self.n.max(1);
        (n, (JOB_VALUES / n).max(1) * n)
    }
}
