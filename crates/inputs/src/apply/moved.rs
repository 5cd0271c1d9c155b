//! Moves values, and negates some.

use crate::apply::plan::{Buffer, Engine, Piece, Places, Plan, Strip, buffer, look_up};
use crate::apply::value::Value;
use crate::error::Result;
use crate::key::{Spec, Transform};

pub(super) struct Moved<T> {
    buffer: Buffer<T>,
    /// The sum of a value and its negative; absent if none is negated.
    sum: Option<f64>,
}

impl<T: Value> Moved<T> {
    pub(super) fn new(spec: &Spec) -> Moved<T> {
        Moved {
            buffer: buffer(T::ZERO),
            sum: spec.has(Transform::Negative).then(|| spec.sum()),
        }
    }
}

impl<T: Value> Engine<T, T> for Moved<T> {
    fn take(&mut self, _piece: Piece, from: &[T], at: usize) -> Result<()> {
        let to = &mut self.buffer[at..at + from.len()];
        // Pieces of single blocks have a known length, so that copies compile to moves instead of
        // calls.
        match from.len() {
            2 => copy::<T, 2>(from, to),
            4 => copy::<T, 4>(from, to),
            8 => copy::<T, 8>(from, to),
            12 => copy::<T, 12>(from, to),
            16 => copy::<T, 16>(from, to),
            _ => to.copy_from_slice(from),
        }
        Ok(())
    }

    fn prepare(&mut self, _plan: &Plan, _strip: Strip, len: usize) -> Result<()> {
        if let Some(sum) = self.sum {
            let (plain, negated) = self.buffer.split_at_mut(len);
            T::negate(plain, &mut negated[..len], sum);
        }
        Ok(())
    }

    fn give(&mut self, _piece: Piece, places: Places, to: &mut [T]) -> Result<()> {
        look_up(&self.buffer, places, to);
        Ok(())
    }
}

fn copy<T: Copy, const N: usize>(from: &[T], to: &mut [T]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        *to = *from;
    }
}
