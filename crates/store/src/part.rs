//! The parts in which objects are written.

/// The least bytes of a part. Stores require 5 MiB, except for the last part.
pub(crate) const MIN_PART_BYTES: u64 = 8 << 20;

/// The most parts for the known length of an object. A tail of unknown length may take 1,000 more.
const MAX_PARTS: u64 = 9_000;

/// Returns the most memory that uploads of one model's files, of `lens` bytes, hold: a part for
/// each request under way, and the beginning and the end of each file.
pub(crate) fn held_bytes(lens: &[u64], n_requests: u64) -> u64 {
    let all = lens
        .iter()
        .fold(0, |sum: u64, len| sum.saturating_add(*len));
    let part = lens.iter().map(|len| part_bytes(*len)).max();
    let n_parts = n_requests + 2 * lens.len() as u64;
    all.min(n_parts.saturating_mul(part.unwrap_or(0)))
}

/// Returns the bytes of a part for an object of `len` bytes.
pub(crate) fn part_bytes(len: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    len.div_ceil(MAX_PARTS)
        .next_multiple_of(MIB)
        .max(MIN_PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_hold_what_they_have_or_some_parts() {
        assert_eq!(held_bytes(&[], 16), 0);
        assert_eq!(held_bytes(&[1 << 20, 3 << 20], 16), 4 << 20);
        assert_eq!(held_bytes(&[1 << 30], 16), 18 * MIN_PART_BYTES);
        assert_eq!(
            held_bytes(&[1 << 20, u64::MAX], 0),
            4 * part_bytes(u64::MAX)
        );
    }

    #[test]
    fn parts_are_as_few_as_stores_allow() {
        let tebibytes = 1 << 40;
        assert_eq!(part_bytes(0), MIN_PART_BYTES);
        for len in [1, 70 << 30, 100 << 30, tebibytes, 5 * tebibytes] {
            let part = part_bytes(len);
            assert!(len.div_ceil(part) <= MAX_PARTS && part >= MIN_PART_BYTES);
        }
        assert!(part_bytes(5 * tebibytes) < 600 << 20);
    }
}
