//! Gathers the runs of a chunk, and scatters them again.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::error::Error;

/// The largest chunk that the format allows, in bytes.
pub const MAX_CHUNK_BYTES: usize = 1 << 24;

/// Buffers for gathered runs, reused for each chunk.
///
/// They grow to the largest chunk. Plaintext in them is zeroized on drop.
#[derive(Default)]
pub struct Scratch {
    pub(crate) text: Zeroizing<Vec<u8>>,
    pub(crate) aad: Vec<u8>,
    /// Numbers to shuffle by.
    pub(crate) draws: Zeroizing<Vec<u32>>,
}

opaque_debug!(Scratch);

impl Scratch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the buffers at least this long.
    pub(crate) fn reserve(
        &mut self,
        text_len: usize,
        aad_len: usize,
        n_draws: usize,
    ) -> Result<&mut Scratch, Error> {
        if self.text.len() < text_len {
            // Allocate again, since resizing could leave old plaintext behind.
            self.text = Zeroizing::new(zeros(text_len.next_power_of_two())?);
        }
        if self.aad.len() < aad_len {
            self.aad = zeros(aad_len.next_power_of_two())?;
        }
        if self.draws.len() < n_draws {
            self.draws = Zeroizing::new(zeros(n_draws.next_power_of_two())?);
        }
        Ok(self)
    }
}

pub(crate) fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, Error> {
    let mut buffer = room_for(len)?;
    buffer.resize(len, T::default());
    Ok(buffer)
}

/// Makes an empty vector with room for `len` values, or fails if the system has no memory.
pub(crate) fn room_for<T>(len: usize) -> Result<Vec<T>, Error> {
    let mut buffer = Vec::new();
    let reserved = buffer.try_reserve_exact(len);
    reserved.map_err(|_| Error::Memory(len * size_of::<T>()))?;
    Ok(buffer)
}

/// Checks that `targets` are sorted, disjoint, non-empty and within `len` bytes. Returns their
/// number of bytes.
pub(crate) fn check(targets: &[Range<usize>], len: usize) -> Result<usize, Error> {
    if len > MAX_CHUNK_BYTES {
        return Err(Error::Misuse("a chunk is at most MAX_CHUNK_BYTES long"));
    }
    let mut end = 0;
    let mut total = 0;
    for target in targets {
        if target.start < end {
            return Err(Error::Misuse("targets are sorted and do not overlap"));
        }
        if target.start >= target.end {
            return Err(Error::Misuse("targets are not empty"));
        }
        total += target.end - target.start;
        end = target.end;
    }
    if end <= len {
        Ok(total)
    } else {
        Err(Error::Misuse("targets lie within the chunk"))
    }
}

/// Returns the runs between the targets, some of them empty.
pub(crate) fn gaps(
    targets: &[Range<usize>],
    len: usize,
) -> impl Iterator<Item = Range<usize>> + '_ {
    let starts = std::iter::once(0).chain(targets.iter().map(|target| target.end));
    let ends = targets
        .iter()
        .map(|target| target.start)
        .chain(std::iter::once(len));
    starts.zip(ends).map(|(start, end)| start..end)
}

/// Copies the runs of `bytes` to `to`, one after the other. `to` must have their total length.
pub(crate) fn gather(bytes: &[u8], runs: impl Iterator<Item = Range<usize>>, to: &mut [u8]) {
    let mut rest = to;
    for run in runs {
        let (head, tail) = rest.split_at_mut(run.len());
        head.copy_from_slice(&bytes[run]);
        rest = tail;
    }
}

/// Copies `from` to the runs of `bytes`, one after the other. `from` must have their total length.
pub(crate) fn scatter(from: &[u8], runs: impl Iterator<Item = Range<usize>>, bytes: &mut [u8]) {
    let mut rest = from;
    for run in runs {
        let (head, tail) = rest.split_at(run.len());
        bytes[run].copy_from_slice(head);
        rest = tail;
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_checked() {
        let max = usize::MAX;
        assert!(matches!(check(&[], 0), Ok(0)));
        assert!(matches!(check(&[0..3, 3..4, 9..10], 10), Ok(5)));
        for (targets, len) in [
            (vec![0..1], 0),
            (vec![0..11], 10),
            (vec![10..11], 10),
            (vec![3..3], 10),
            (vec![Range { start: 4, end: 3 }], 10),
            (vec![0..4, 3..5], 10),
            (vec![5..6, 0..1], 10),
            (vec![0..max, max..max], 10),
            (vec![max - 1..max], 10),
            (vec![], MAX_CHUNK_BYTES + 1),
        ] {
            let fault = check(&targets, len);
            assert!(
                matches!(fault, Err(Error::Misuse { .. })),
                "{targets:?} in {len}"
            );
        }
    }

    #[test]
    fn gathered_runs_return_to_their_places() {
        let bytes: Vec<u8> = (0..20).collect();
        let targets = [0..1, 4..7, 7..9, 19..20];
        let total = targets.iter().map(Range::len).sum();
        let (mut text, mut aad) = (vec![0; total], vec![0; 20 - total]);
        gather(&bytes, targets.iter().cloned(), &mut text);
        gather(&bytes, gaps(&targets, 20), &mut aad);
        assert_eq!(text, [0, 4, 5, 6, 7, 8, 19]);
        assert_eq!(aad, [1, 2, 3, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]);

        let mut restored = vec![0xff; 20];
        scatter(&text, targets.iter().cloned(), &mut restored);
        scatter(&aad, gaps(&targets, 20), &mut restored);
        assert_eq!(restored, bytes);
    }
}
