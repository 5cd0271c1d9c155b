//! Inputs for the fuzz targets without a fuzzer: those of a corpus, changed here and there.
//!
//! Nothing is known of what an input reached, so this finds less than a fuzzer does. It needs no nightly Rust.

use onnxseal_testkit::wire::varint;

/// Numbers at which lengths, counts and offsets go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// No input grows beyond this. Inputs of a corpus that are longer are taken as they are.
const MAX_BYTES: usize = 1 << 16;

/// One of `corpus`, changed in up to eight places.
pub fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.one_of(corpus).clone();
    for _ in 0..=random.below(8) {
        change(&mut bytes, corpus, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.next() as u8,
        2 => change_digit(bytes, random),
        3 => {
            let removed = random.piece(&bytes[at..]).len();
            bytes.drain(at..at + removed);
        }
        4 => bytes.truncate(at),
        5 => {
            let number = number(random);
            put(bytes, at, &number, random);
        }
        // What stands elsewhere in the same input, or in another one.
        6 => {
            let piece = random.piece(bytes).to_vec();
            put(bytes, at, &piece, random);
        }
        _ => {
            let other = random.one_of(corpus);
            let piece = random.piece(other).to_vec();
            put(bytes, at, &piece, random);
        }
    }
}

/// In an input that is text, another digit: what is no digit there is seldom read as far.
fn change_digit(bytes: &mut [u8], random: &mut Random) {
    let mut digits: Vec<&mut u8> = bytes.iter_mut().filter(|b| b.is_ascii_digit()).collect();
    if !digits.is_empty() {
        let at = random.below(digits.len());
        *digits[at] = b'0' + random.below(10) as u8;
    }
}

/// A number as protobuf has it, as raw elements have it, or as text.
fn number(random: &mut Random) -> Vec<u8> {
    let number = *random.one_of(&NUMBERS);
    match random.below(3) {
        0 => varint(number),
        1 => number.to_le_bytes()[..1 << random.below(4)].to_vec(),
        _ => number.to_string().into_bytes(),
    }
}

/// Puts `piece` between the bytes at `at`, or over them.
fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8], random: &mut Random) {
    let replaced = match random.below(2) {
        0 => 0,
        _ => piece.len().min(bytes.len() - at),
    };
    if bytes.len() + piece.len() <= MAX_BYTES {
        bytes.splice(at..at + replaced, piece.iter().copied());
    }
}

/// SplitMix64: a few lines, and the same numbers on every machine.
pub struct Random(u64);

impl Random {
    /// What decides about one input: the same `seed` and number give the same input.
    pub fn new(seed: u64, number: u64) -> Random {
        let mut random = Random(seed);
        Random(random.next() ^ number)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Bytes that lie together: a few as a rule.
    fn piece<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.below(bytes.len() + 1);
        let rest = bytes.len() - start;
        let longest = match self.below(4) {
            0 => rest,
            _ => rest.min(32),
        };
        &bytes[start..start + self.below(longest + 1)]
    }
}
