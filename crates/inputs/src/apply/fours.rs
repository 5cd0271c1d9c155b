//! Moves bytes, and negates some, of four strips at once.
//!
//! The bytes at the same place of four strips form a word of 32 bits, so that one look-up moves
//! them all. Vector instructions assemble and split the words.
//!
//! If a piece of a block is a multiple of 16 bytes, another order is faster: squares of 4 x 4
//! bytes, four of them adjacent, are transposed in words of 32 bits (Warren, Hacker's Delight,
//! 7-3). So in each 16 words, those of the bytes 0, 4, 8 and 12 come first, then those of 1, 5, 9
//! and 13, and so on.

use crate::apply::plan::{Buffer, FOUR, Group, Places, Plan, Table, buffer, look_up};
use crate::key::{Spec, Transform};

pub(super) struct Fours {
    words: Buffer<u32>,
    row: Vec<u32>,
    /// A piece of each strip, if its blocks come from all over the image.
    pieces: [Vec<u8>; FOUR],
    has_negated: bool,
    /// The places of a block's values in the order of squares, if that is used.
    squared: Option<Vec<u16>>,
}

impl Fours {
    pub(super) fn new(spec: &Spec, plan: &Plan, table: &Table) -> Fours {
        let squared = if plan.width.is_multiple_of(CHUNK) {
            table.short_places().map(squared)
        } else {
            None
        };
        Fours {
            words: buffer(0),
            row: Vec::new(),
            pieces: Default::default(),
            has_negated: spec.has(Transform::Negative),
            squared,
        }
    }

    /// Transforms images into others.
    pub(super) fn between(&mut self, plan: &Plan, table: &Table, from: &[u8], to: &mut [u8]) {
        let images = from.chunks_exact(plan.image_values.max(1));
        for (from, to) in images.zip(to.chunks_exact_mut(plan.image_values.max(1))) {
            for strips in plan.groups() {
                self.take(plan, table, &strips, from);
                self.give(plan, table, &strips, to);
            }
        }
    }

    /// Transforms images in place.
    pub(super) fn within(&mut self, plan: &Plan, table: &Table, images: &mut [u8]) {
        let mut before = Vec::new();
        for image in images.chunks_exact_mut(plan.image_values.max(1)) {
            if table.blocks.is_some() {
                before.clear();
                before.extend_from_slice(image);
                self.between(plan, table, &before, image);
                continue;
            }
            for strips in plan.groups() {
                self.take(plan, table, &strips, image);
                self.give(plan, table, &strips, image);
            }
        }
    }

    /// Copies up to four strips of one length.
    fn take(&mut self, plan: &Plan, table: &Table, strips: &Group, image: &[u8]) {
        let Some(first) = &strips[0] else {
            return;
        };
        let len = first.n * plan.width;
        for piece in 0..plan.pieces {
            let at = piece * plan.stride();
            let words = &mut self.words[at..at + len];
            // The first strip replaces a missing one.
            let strip = |i: usize| strips[i].as_ref().unwrap_or(first);
            let pieces: [&[u8]; FOUR] = match &table.blocks {
                None => std::array::from_fn(|i| {
                    image.get(plan.place(piece, strip(i))).unwrap_or_default()
                }),
                Some(blocks) => {
                    for (i, bytes) in self.pieces.iter_mut().enumerate() {
                        bytes.resize(len, 0);
                        let sources = plan.sources(piece, strip(i), blocks);
                        gather(image, sources, plan.width, bytes);
                    }
                    self.pieces.each_ref().map(|bytes| &bytes[..])
                }
            };
            match self.squared {
                Some(_) => join_squares(words, pieces),
                None => join(words, pieces),
            }
        }
        if self.has_negated {
            let len = plan.pieces * plan.stride();
            let (plain, negated) = self.words.split_at_mut(len);
            for (to, from) in negated.iter_mut().zip(plain) {
                *to = !*from;
            }
        }
    }

    fn give(&mut self, plan: &Plan, table: &Table, strips: &Group, image: &mut [u8]) {
        let Some(first) = &strips[0] else {
            return;
        };
        self.row.resize(first.n * plan.width, 0);
        for piece in 0..plan.pieces {
            match &self.squared {
                Some(places) => {
                    let of_piece = piece * plan.width..(piece + 1) * plan.width;
                    let places = Places::Short(&places[of_piece]);
                    look_up(&self.words, places, &mut self.row);
                    let places = strips.each_ref().map(|strip| {
                        let strip = strip.as_ref();
                        strip.map_or(0..0, |strip| plan.place(piece, strip))
                    });
                    if strips.iter().all(Option::is_some) {
                        if let Ok(pieces) = image.get_disjoint_mut(places) {
                            part_squares(&self.row, pieces);
                        }
                    } else {
                        let pieces = self.pieces.each_mut();
                        part_squares(
                            &self.row,
                            pieces.map(|bytes| {
                                bytes.resize(self.row.len(), 0);
                                &mut bytes[..]
                            }),
                        );
                        for (place, bytes) in places.into_iter().zip(&self.pieces) {
                            let to = image.get_mut(place).unwrap_or_default();
                            to.copy_from_slice(&bytes[..to.len()]);
                        }
                    }
                }
                None => {
                    look_up(&self.words, table.of_piece(plan, piece), &mut self.row);
                    for (i, strip) in strips.iter().flatten().enumerate() {
                        let to = image.get_mut(plan.place(piece, strip)).unwrap_or_default();
                        for (to, word) in to.iter_mut().zip(&self.row) {
                            *to = (word >> (8 * i)) as u8;
                        }
                    }
                }
            }
        }
    }
}

/// The bytes of a group in the order of squares.
const CHUNK: usize = 16;

/// Converts places to that order, for words and values.
fn squared(places: &[u16]) -> Vec<u16> {
    let word = |place: u16| place & !15 | (place & 3) << 2 | place >> 2 & 3;
    let mut squared = vec![0; places.len()];
    for (i, place) in places.iter().enumerate() {
        let to = i & !15 | (i & 3) << 2 | i >> 2 & 3;
        squared[to] = word(*place);
    }
    squared
}

/// Four adjacent words.
type Words = [u32; 4];

fn join_squares(words: &mut [u32], [a, b, c, d]: [&[u8]; FOUR]) {
    let chunks = |bytes| <[u8]>::as_chunks::<CHUNK>(bytes).0;
    let rows = chunks(a)
        .iter()
        .zip(chunks(b))
        .zip(chunks(c).iter().zip(chunks(d)));
    for (words, ((a, b), (c, d))) in words.as_chunks_mut::<CHUNK>().0.iter_mut().zip(rows) {
        let square = transposed([read(a), read(b), read(c), read(d)]);
        for (to, from) in words.as_chunks_mut::<4>().0.iter_mut().zip(square) {
            *to = from;
        }
    }
}

fn part_squares(words: &[u32], pieces: [&mut [u8]; FOUR]) {
    let [a, b, c, d] = pieces.map(|bytes| bytes.as_chunks_mut::<CHUNK>().0);
    let rows = a.iter_mut().zip(b).zip(c.iter_mut().zip(d));
    for (words, ((a, b), (c, d))) in words.as_chunks::<CHUNK>().0.iter().zip(rows) {
        let word = |i: usize| std::array::from_fn(|k| words[4 * i + k]);
        let square = transposed([word(0), word(1), word(2), word(3)]);
        for (to, from) in [a, b, c, d].into_iter().zip(square) {
            for (to, from) in to.as_chunks_mut::<4>().0.iter_mut().zip(from) {
                *to = from.to_le_bytes();
            }
        }
    }
}

fn read(bytes: &[u8; CHUNK]) -> Words {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// Transposes four bytes by four rows, in each of the four words.
fn transposed([a, b, c, d]: [Words; 4]) -> [Words; 4] {
    let (a, c) = exchanged::<16>(a, c, 0x0000_FFFF);
    let (b, d) = exchanged::<16>(b, d, 0x0000_FFFF);
    let (a, b) = exchanged::<8>(a, b, 0x00FF_00FF);
    let (c, d) = exchanged::<8>(c, d, 0x00FF_00FF);
    [a, b, c, d]
}

/// Exchanges the high bits of the upper row with the low ones of the lower row.
fn exchanged<const BITS: u32>(upper: Words, lower: Words, low: u32) -> (Words, Words) {
    let crossed: Words = std::array::from_fn(|i| (upper[i] >> BITS ^ lower[i]) & low);
    (
        std::array::from_fn(|i| upper[i] ^ crossed[i] << BITS),
        std::array::from_fn(|i| lower[i] ^ crossed[i]),
    )
}

/// Joins the bytes of four pieces to words.
fn join(words: &mut [u32], [a, b, c, d]: [&[u8]; FOUR]) {
    let pairs = a.iter().zip(b).zip(c.iter().zip(d));
    for (word, ((a, b), (c, d))) in words.iter_mut().zip(pairs) {
        *word = u32::from_le_bytes([*a, *b, *c, *d]);
    }
}

/// Gathers the pieces of single blocks, which begin at `sources`.
fn gather(image: &[u8], sources: impl Iterator<Item = usize>, width: usize, to: &mut [u8]) {
    // A known length, so that copies compile to moves instead of calls.
    match width {
        2 => copies::<2>(image, sources, to),
        4 => copies::<4>(image, sources, to),
        6 => copies::<6>(image, sources, to),
        8 => copies::<8>(image, sources, to),
        12 => copies::<12>(image, sources, to),
        16 => copies::<16>(image, sources, to),
        24 => copies::<24>(image, sources, to),
        48 => copies::<48>(image, sources, to),
        _ => {
            for (to, source) in to.chunks_exact_mut(width.max(1)).zip(sources) {
                to.copy_from_slice(&image[source..source + width]);
            }
        }
    }
}

fn copies<const WIDTH: usize>(image: &[u8], sources: impl Iterator<Item = usize>, to: &mut [u8]) {
    for (to, source) in to.as_chunks_mut::<WIDTH>().0.iter_mut().zip(sources) {
        if let Some(from) = image.get(source..).and_then(|rest| rest.first_chunk()) {
            *to = *from;
        }
    }
}
