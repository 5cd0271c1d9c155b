//! The places of blocks' values in an image, and their sources.
//!
//! A block consists of pieces, each of adjacent values: with channels first, one piece per channel
//! and row, with one value per column; with channels last, one piece per row, with all channels of
//! its columns. In a strip, the same pieces of several blocks are adjacent too.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::key::{Layout, Spec, Transform};

/// The direction: to keyed images, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forwards,
    Backwards,
}

/// The most values of a strip with more than one block: the strip, its negative and the tables stay
/// in the nearest cache.
const STRIP_VALUES: usize = 4 << 10;

/// The most values of a strip for multiplying by matrices, which is slower for a few blocks than
/// for many.
const MIXED_STRIP_VALUES: usize = 12 << 10;

/// Values of a buffer: those of a strip of the largest possible block, and as many negated ones. A
/// power of two, so that indices are masked instead of checked.
pub(super) const BUFFER_VALUES: usize = 1 << 17;

/// A strip, and the values made from it.
pub(super) type Buffer<T> = Box<[T; BUFFER_VALUES]>;

/// Makes a buffer filled with a value.
pub(super) fn buffer<T: Copy>(value: T) -> Buffer<T> {
    match vec![value; BUFFER_VALUES].into_boxed_slice().try_into() {
        Ok(buffer) => buffer,
        Err(_) => Box::new([value; BUFFER_VALUES]),
    }
}

/// The geometry of images of one size.
pub(super) struct Plan {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) image_values: usize,
    block: usize,
    channels: usize,
    layout: Layout,
    /// Whether the channels of the image are in reverse order of the key's.
    reversed: bool,
    /// Blocks in a row of an image.
    across: usize,
    /// The start of each piece of the first block in an image.
    begins: Vec<usize>,
    /// Values from the start of a piece to that of the block below.
    row_step: usize,
    /// Pieces of a block.
    pub(super) pieces: usize,
    /// Values of a piece.
    pub(super) width: usize,
    /// The most blocks of a strip.
    strip_blocks: usize,
}

/// Adjacent blocks of a row.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// The row of blocks.
    row: usize,
    /// The first block in that row.
    first: usize,
    /// The number of blocks.
    pub(super) n: usize,
}

/// Strips of one length; missing ones come last.
pub(super) type Group = [Option<Strip>; FOUR];

/// Strips to work on at once, for engines that do so.
pub(super) const FOUR: usize = 4;

fn grouped(n: usize, strip: impl Fn(usize) -> Strip) -> impl Iterator<Item = Group> {
    (0..n)
        .step_by(FOUR)
        .map(move |first| std::array::from_fn(|i| (first + i < n).then(|| strip(first + i))))
}

/// The sources of a result's values.
pub(super) struct Table {
    /// For each value of a block, in the order of pieces in an image: its source in a buffer, for
    /// the first block of a strip. Masked values come from the second half.
    places: AllPlaces,
    /// For each place, the start in an image of the block that goes there.
    pub(super) blocks: Option<Vec<usize>>,
}

/// Places in a buffer. Short numbers are faster; long ones are for the largest blocks.
enum AllPlaces {
    Short(Vec<u16>),
    Long(Vec<u32>),
}

/// The places of one piece.
#[derive(Clone, Copy)]
pub(super) enum Places<'t> {
    Short(&'t [u16]),
    Long(&'t [u32]),
}

impl AllPlaces {
    fn of(&self, range: Range<usize>) -> Places<'_> {
        match self {
            AllPlaces::Short(places) => Places::Short(&places[range]),
            AllPlaces::Long(places) => Places::Long(&places[range]),
        }
    }
}

/// Converts values of one type to another, strip by strip.
pub(super) trait Engine<A, B> {
    /// Copies a piece of all blocks of a strip, or of one block, to `at` in the buffer.
    fn take(&mut self, piece: Piece, from: &[A], at: usize) -> Result<()>;

    /// Prepares `len` values for the result to look up.
    fn prepare(&mut self, plan: &Plan, strip: Strip, len: usize) -> Result<()>;

    /// Writes a piece of all blocks of a strip. `places` has the sources of the first block's
    /// values.
    fn give(&mut self, piece: Piece, places: Places, to: &mut [B]) -> Result<()>;
}

/// The channels of a piece.
#[derive(Clone, Copy)]
pub(super) enum Piece {
    /// All its values belong to one channel.
    Of(usize),
    /// Its values belong to all channels in turn.
    Mixed,
}

impl Plan {
    pub(super) fn new(
        spec: &Spec,
        (layout, reversed): (Layout, bool),
        rows: usize,
        columns: usize,
    ) -> Result<Plan> {
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
        let image_values =
            values.ok_or_else(|| misfit(format!("no image has {rows} x {columns} pixels")))?;
        let (pieces, width) = match layout {
            Layout::Nchw => (channels * block, block),
            Layout::Nhwc => (block, block * channels),
        };
        let begins = |piece: usize| match layout {
            Layout::Nchw => (piece / block * rows + piece % block) * columns,
            Layout::Nhwc => piece * columns * channels,
        };
        let row_step = match layout {
            Layout::Nchw => block * columns,
            Layout::Nhwc => block * columns * channels,
        };
        let across = columns / block;
        let strip_values = if spec.has(Transform::Orthogonal) {
            MIXED_STRIP_VALUES
        } else {
            STRIP_VALUES
        };
        let strip_blocks = (strip_values / spec.block_values()).min(across).max(1);
        Ok(Plan {
            rows,
            columns,
            image_values,
            block,
            channels,
            layout,
            reversed,
            across,
            begins: (0..pieces).map(begins).collect(),
            row_step,
            pieces,
            width,
            strip_blocks,
        })
    }

    /// Returns the number of blocks of an image.
    pub(super) fn n_blocks(&self) -> Result<u32> {
        let n = self.across * (self.rows / self.block);
        u32::try_from(n).map_err(|_| Error::Array {
            reason: format!("an image of {n} blocks is too large"),
        })
    }

    /// Returns the values from one piece to the next in a buffer.
    pub(super) fn stride(&self) -> usize {
        self.strip_blocks * self.width
    }

    /// Returns the place, in the order of pieces in an image, of value number t by row, column,
    /// channel.
    pub(super) fn lies_at(&self, t: usize) -> usize {
        let (pixel, channel) = (t / self.channels, t % self.channels);
        let channel = if self.reversed {
            self.channels - 1 - channel
        } else {
            channel
        };
        match self.layout {
            Layout::Nhwc => pixel * self.channels + channel,
            Layout::Nchw => channel * self.block * self.block + pixel,
        }
    }

    /// Returns the start of a block in an image, by its number.
    fn block_begins(&self, block: u32) -> usize {
        let (row, column) = (block as usize / self.across, block as usize % self.across);
        row * self.row_step + column * self.width
    }

    fn piece(&self, piece: usize) -> Piece {
        match self.layout {
            Layout::Nchw => Piece::Of(piece / self.block),
            Layout::Nhwc => Piece::Mixed,
        }
    }

    /// Returns groups of up to four strips of one length; strips that end rows come last.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group> {
        let (rows, most) = (self.rows / self.block, self.strip_blocks);
        let (in_row, rest) = (self.across / most, self.across % most);
        let whole = move |i: usize| Strip {
            row: i / in_row,
            first: i % in_row * most,
            n: most,
        };
        let end = move |row: usize| Strip {
            row,
            first: in_row * most,
            n: rest,
        };
        let n_ends = if rest > 0 { rows } else { 0 };
        let whole = grouped(rows * in_row, whole);
        whole.chain(grouped(n_ends, end))
    }

    /// Returns the range in an image of a piece of all blocks of a strip.
    pub(super) fn place(&self, piece: usize, strip: &Strip) -> Range<usize> {
        let begin = self.begins.get(piece).copied().unwrap_or(0);
        let begin = begin + strip.row * self.row_step + strip.first * self.width;
        begin..begin + strip.n * self.width
    }

    /// Returns the start of a piece in each of the blocks that go to a strip.
    pub(super) fn sources(
        &self,
        piece: usize,
        strip: &Strip,
        blocks: &[usize],
    ) -> impl Iterator<Item = usize> {
        let first = strip.row * self.across + strip.first;
        let sources = blocks.get(first..first + strip.n).unwrap_or_default();
        let begin = self.begins.get(piece).copied().unwrap_or(0);
        sources.iter().map(move |source| source + begin)
    }

    /// Transforms images into others.
    pub(super) fn between<A, B>(
        &self,
        table: &Table,
        from: &[A],
        to: &mut [B],
        engine: &mut impl Engine<A, B>,
    ) -> Result<()> {
        let images = from.chunks_exact(self.image_values.max(1));
        for (from, to) in images.zip(to.chunks_exact_mut(self.image_values.max(1))) {
            for strip in self.groups().flatten().flatten() {
                self.take(table, strip, from, engine)?;
                self.give(table, strip, to, engine)?;
            }
        }
        Ok(())
    }

    /// Transforms images in place.
    pub(super) fn within<T: Copy>(
        &self,
        table: &Table,
        images: &mut [T],
        engine: &mut impl Engine<T, T>,
    ) -> Result<()> {
        let mut before = Vec::new();
        for image in images.chunks_exact_mut(self.image_values.max(1)) {
            if table.blocks.is_some() {
                before.clear();
                before.extend_from_slice(image);
                self.between(table, &before, image, engine)?;
                continue;
            }
            for strip in self.groups().flatten().flatten() {
                self.take(table, strip, image, engine)?;
                self.give(table, strip, image, engine)?;
            }
        }
        Ok(())
    }

    fn take<A, B>(
        &self,
        table: &Table,
        strip: Strip,
        image: &[A],
        engine: &mut impl Engine<A, B>,
    ) -> Result<()> {
        for piece in 0..self.pieces {
            let mut at = piece * self.stride();
            let Some(blocks) = &table.blocks else {
                let values = image.get(self.place(piece, &strip)).unwrap_or_default();
                engine.take(self.piece(piece), values, at)?;
                continue;
            };
            for source in self.sources(piece, &strip, blocks) {
                let values = image.get(source..source + self.width);
                engine.take(self.piece(piece), values.unwrap_or_default(), at)?;
                at += self.width;
            }
        }
        engine.prepare(self, strip, self.pieces * self.stride())
    }

    fn give<A, B>(
        &self,
        table: &Table,
        strip: Strip,
        image: &mut [B],
        engine: &mut impl Engine<A, B>,
    ) -> Result<()> {
        for piece in 0..self.pieces {
            let places = table.of_piece(self, piece);
            let values = image.get_mut(self.place(piece, &strip)).unwrap_or_default();
            engine.give(self.piece(piece), places, values)?;
        }
        Ok(())
    }
}

impl Table {
    /// `places` and `masked` count by row, column, channel.
    pub(super) fn new(
        plan: &Plan,
        places: &[u32],
        masked: &[bool],
        blocks: Option<Vec<u32>>,
    ) -> Table {
        let mut offsets = vec![0; places.len()];
        for (t, (from, masked)) in places.iter().zip(masked).enumerate() {
            let from = plan.lies_at(*from as usize);
            let place = from / plan.width * plan.stride() + from % plan.width;
            let half = if *masked {
                plan.pieces * plan.stride()
            } else {
                0
            };
            offsets[plan.lies_at(t)] = (place + half) as u32;
        }
        let short: Option<Vec<u16>> = offsets.iter().map(|at| (*at).try_into().ok()).collect();
        let begins = |blocks: Vec<u32>| {
            let begins = blocks.iter().map(|block| plan.block_begins(*block));
            begins.collect()
        };
        Table {
            places: short.map_or(AllPlaces::Long(offsets), AllPlaces::Short),
            blocks: blocks.map(begins),
        }
    }

    /// Returns the places of all values of a block, if they are short.
    pub(super) fn short_places(&self) -> Option<&[u16]> {
        match &self.places {
            AllPlaces::Short(places) => Some(places),
            AllPlaces::Long(_) => None,
        }
    }

    /// Returns the sources of a piece's values, for the first block.
    pub(super) fn of_piece(&self, plan: &Plan, piece: usize) -> Places<'_> {
        self.places.of(piece * plan.width..(piece + 1) * plan.width)
    }

    /// Returns the inverse.
    pub(super) fn inverse(
        plan: &Plan,
        places: &[u32],
        masked: &[bool],
        blocks: Option<&[u32]>,
    ) -> Table {
        let inverse = inverse(places);
        let masked: Vec<bool> = inverse.iter().map(|t| masked[*t as usize]).collect();
        Table::new(plan, &inverse, &masked, blocks.map(self::inverse))
    }
}

fn inverse(permutation: &[u32]) -> Vec<u32> {
    let mut inverse = vec![0; permutation.len()];
    for (to, from) in (0..).zip(permutation) {
        inverse[*from as usize] = to;
    }
    inverse
}

/// Looks up the values of all blocks of a strip. `places` are those of the first block.
pub(super) fn look_up<T: Copy>(buffer: &[T; BUFFER_VALUES], places: Places, to: &mut [T]) {
    let places = match places {
        Places::Short(places) => places,
        Places::Long(places) => {
            for (i, to) in to.chunks_exact_mut(places.len().max(1)).enumerate() {
                let first = (i * places.len()) as u32;
                for (to, place) in to.iter_mut().zip(places) {
                    *to = buffer[place.wrapping_add(first) as usize & (BUFFER_VALUES - 1)];
                }
            }
            return;
        }
    };
    // The usual widths, so that the loops over places are unrolled.
    match places.len() {
        2 => of_width::<T, 2>(buffer, places, to),
        3 => of_width::<T, 3>(buffer, places, to),
        4 => of_width::<T, 4>(buffer, places, to),
        6 => of_width::<T, 6>(buffer, places, to),
        8 => of_width::<T, 8>(buffer, places, to),
        12 => of_width::<T, 12>(buffer, places, to),
        16 => of_width::<T, 16>(buffer, places, to),
        24 => of_width::<T, 24>(buffer, places, to),
        48 => of_width::<T, 48>(buffer, places, to),
        width => {
            let blocks = to.chunks_exact_mut(width.max(1));
            for (i, to) in blocks.enumerate() {
                let Some(window) = window(buffer, i * width) else {
                    return;
                };
                for (to, place) in to.iter_mut().zip(places) {
                    *to = window[usize::from(*place)];
                }
            }
        }
    }
}

fn of_width<T: Copy, const WIDTH: usize>(
    buffer: &[T; BUFFER_VALUES],
    places: &[u16],
    to: &mut [T],
) {
    let Some(places) = places.first_chunk::<WIDTH>() else {
        return;
    };
    for (i, to) in to.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let Some(window) = window(buffer, i * WIDTH) else {
            return;
        };
        for i in 0..WIDTH {
            to[i] = window[usize::from(places[i])];
        }
    }
}

/// Returns the window that short places can reach from the block at `first`, long enough to need no
/// index checks.
fn window<T>(buffer: &[T; BUFFER_VALUES], first: usize) -> Option<&[T; 1 << 16]> {
    buffer.get(first..)?.first_chunk()
}
