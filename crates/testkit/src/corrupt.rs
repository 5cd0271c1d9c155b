//! Ways to damage a file.

use crate::wire;

/// Every bit of byte `i` the other way round.
pub fn flipped(bytes: &[u8], i: usize) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    damaged[i] ^= 0xff;
    damaged
}

/// Bit `bit` (0 the lowest) of byte `i` the other way round.
pub fn bit_flipped(bytes: &[u8], i: usize, bit: u32) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    damaged[i] ^= 1 << bit;
    damaged
}

pub fn truncated(bytes: &[u8], len: usize) -> Vec<u8> {
    bytes[..len].to_vec()
}

pub fn appended(bytes: &[u8], more: &[u8]) -> Vec<u8> {
    [bytes, more].concat()
}

pub fn cut(bytes: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    [&bytes[..range.start], &bytes[range.end..]].concat()
}

/// The message with its first field `number` once more at its end.
pub fn field_duplicated(bytes: &[u8], number: u32) -> Vec<u8> {
    let fields = wire::fields(bytes);
    let field = fields.into_iter().find(|(found, _)| *found == number);
    let (_, range) = field.unwrap_or_else(|| panic!("no field {number}"));
    appended(bytes, &bytes[range])
}
