//! The numbers that are a mark.
//!
//! Element i of a tensor has the 32-bit word i of stream 0. The sum of its four bytes, less 510, is
//! g_i times [`DEVIATION`]. Each bit of a byte is a sign with a weight, so g_i is a sum of 32
//! independent signs with weights whose squares add up to 1. By Hoeffding's inequality,
//! P(<r, g> >= z |r|) <= exp(-z² / 2) for each r that does not depend on g. Integers are the same on
//! all platforms, and 1,021 values leave colluders no lattice to round to.

use chacha20::ChaCha20Rng;
use rand::{Rng as _, SeedableRng as _};

/// The deviation of a sum of four bytes: the variance of a byte is (256² - 1) / 12.
pub const DEVIATION: f64 = 147.800_541_270_998_05;

/// The mark itself, and numbers that decide how elements are rounded.
pub const MARK: u64 = 0;
pub const DITHER: u64 = 1;

/// Elements at a time.
const PIECE: usize = 1024;

/// Sums of floats that a processor adds side by side.
const LANES: usize = 8;

/// The numbers of a stream, from a place on.
pub struct Stream {
    rng: ChaCha20Rng,
    bytes: Box<[u8; 4 * PIECE]>,
}

impl Stream {
    /// Begins stream [`MARK`] or [`DITHER`] at the number of an element.
    pub fn new(key: &[u8; 32], stream: u64, element: usize) -> Stream {
        let mut rng = ChaCha20Rng::from_seed(*key);
        rng.set_stream(stream);
        rng.set_word_pos(element as u128);
        Stream {
            rng,
            bytes: Box::new([0; 4 * PIECE]),
        }
    }

    /// Hands out the words of the next `n` elements in pieces, with the index of each piece's first.
    fn pieces(&mut self, n: usize, mut each: impl FnMut(usize, &[[u8; 4]])) {
        for from in (0..n).step_by(PIECE) {
            let len = (n - from).min(PIECE);
            let (words, _) = self.bytes.as_chunks_mut::<4>();
            let words = &mut words[..len];
            self.rng.fill_bytes(words.as_flattened_mut());
            each(from, words);
        }
    }

    /// Writes the next numbers of a mark, times [`DEVIATION`].
    pub fn numbers(&mut self, into: &mut [f32]) {
        self.pieces(into.len(), |from, words| {
            for (number, word) in into[from..].iter_mut().zip(words) {
                *number = centred(*word);
            }
        });
    }

    /// Writes the next 16 bits of each element.
    pub fn bits(&mut self, into: &mut [u16]) {
        self.pieces(into.len(), |from, words| {
            for (bits, [a, b, ..]) in into[from..].iter_mut().zip(words) {
                *bits = u16::from_le_bytes([*a, *b]);
            }
        });
    }

    /// Returns the sum of the next numbers, each times one of `r`.
    pub fn dot(&mut self, r: &[f32]) -> f64 {
        let mut sum = 0.0;
        self.pieces(r.len(), |from, words| {
            let r = &r[from..][..words.len()];
            let mut lanes = [0.0f32; LANES];
            let (r, r_rest) = r.as_chunks::<LANES>();
            let (words, words_rest) = words.as_chunks::<LANES>();
            for (r, words) in r.iter().zip(words) {
                for lane in 0..LANES {
                    lanes[lane] += r[lane] * centred(words[lane]);
                }
            }
            let rest = r_rest.iter().zip(words_rest);
            sum += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
            sum += rest
                .map(|(r, word)| f64::from(r * centred(*word)))
                .sum::<f64>();
        });
        sum / DEVIATION
    }
}

fn centred([a, b, c, d]: [u8; 4]) -> f32 {
    let sum = i32::from(a) + i32::from(b) + i32::from(c) + i32::from(d);
    (sum - 510) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_mean_0_and_deviation_1_and_can_be_had_from_any_place() {
        let mut all = vec![0.0; 50_000];
        Stream::new(&[7; 32], MARK, 0).numbers(&mut all);
        let n = all.len() as f64;
        let mean = all.iter().map(|g| f64::from(*g)).sum::<f64>() / n;
        let square = all.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>() / n;
        assert!((mean / DEVIATION).abs() < 0.02, "{mean}");
        assert!((square.sqrt() / DEVIATION - 1.0).abs() < 0.02, "{square}");
        let mut some = vec![0.0; 3000];
        Stream::new(&[7; 32], MARK, 4321).numbers(&mut some);
        assert_eq!(some, all[4321..7321]);
        let wanted: f64 = all.iter().map(|g| f64::from(*g).powi(2)).sum();
        let found = Stream::new(&[7; 32], MARK, 0).dot(&all) * DEVIATION;
        assert!((found / wanted - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_first_numbers_stay_as_they_are() {
        let mut first = [0.0; 4];
        Stream::new(&[0; 32], MARK, 0).numbers(&mut first);
        // ChaCha20 of a zero key and nonce begins 76b8e0ad a0f13d90 405d6ae5 5386bd28.
        let sums = [
            0x76 + 0xb8 + 0xe0 + 0xad,
            0xa0 + 0xf1 + 0x3d + 0x90,
            0x40 + 0x5d + 0x6a + 0xe5,
            0x53 + 0x86 + 0xbd + 0x28,
        ];
        assert_eq!(first, sums.map(|sum| (sum - 510) as f32));
    }
}
