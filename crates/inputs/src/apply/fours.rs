//! Bytes that are moved, and negated or not: of four strips at once.
//!
//! The bytes at the same place of four strips become a word of 32 bits, so that one look-up moves them all. To put the
//! words together and to take them apart again, vector instructions do.

use crate::apply::plan::{Buffer, FOUR, Group, Plan, Table, buffer, look_up};
use crate::key::{Spec, Transform};

pub(super) struct Fours {
    words: Buffer<u32>,
    row: Vec<u32>,
    /// A piece of each strip, where its blocks come from all over the image.
    pieces: [Vec<u8>; FOUR],
    has_negated: bool,
}

impl Fours {
    pub(super) fn new(spec: &Spec) -> Fours {
        Fours {
            words: buffer(0),
            row: Vec::new(),
            pieces: Default::default(),
            has_negated: spec.has(Transform::Negative),
        }
    }

    /// Makes images of others.
    pub(super) fn between(&mut self, plan: &Plan, table: &Table, from: &[u8], to: &mut [u8]) {
        let images = from.chunks_exact(plan.image_values.max(1));
        for (from, to) in images.zip(to.chunks_exact_mut(plan.image_values.max(1))) {
            for strips in plan.groups() {
                self.take(plan, table, &strips, from);
                self.give(plan, table, &strips, to);
            }
        }
    }

    /// The same where images lie.
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

    /// Takes some strips of the same length, up to four.
    fn take(&mut self, plan: &Plan, table: &Table, strips: &Group, image: &[u8]) {
        let Some(first) = &strips[0] else {
            return;
        };
        let len = first.n * plan.width;
        for piece in 0..plan.pieces {
            let at = piece * plan.stride();
            let words = &mut self.words[at..at + len];
            // In place of one that is missing, the first.
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
            join(words, pieces);
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
        for piece in 0..plan.pieces {
            for (i, strip) in strips.iter().flatten().enumerate() {
                let to = image.get_mut(plan.place(piece, strip)).unwrap_or_default();
                if i == 0 {
                    self.row.resize(to.len(), 0);
                    look_up(&self.words, table.of_piece(plan, piece), &mut self.row);
                }
                for (to, word) in to.iter_mut().zip(&self.row) {
                    *to = (word >> (8 * i)) as u8;
                }
            }
        }
    }
}

/// Words of the bytes of four pieces.
fn join(words: &mut [u32], [a, b, c, d]: [&[u8]; FOUR]) {
    let pairs = a.iter().zip(b).zip(c.iter().zip(d));
    for (word, ((a, b), (c, d))) in words.iter_mut().zip(pairs) {
        *word = u32::from_le_bytes([*a, *b, *c, *d]);
    }
}

/// Pieces of single blocks, which begin at `sources`.
fn gather(image: &[u8], sources: impl Iterator<Item = usize>, width: usize, to: &mut [u8]) {
    // Of a known length, so that none is a call.
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
