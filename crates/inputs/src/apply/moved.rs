//! Values that are moved, and negated or not.

use crate::apply::plan::{Buffer, Engine, Piece, Plan, Strip, buffer, look_up};
use crate::apply::value::Value;
use crate::error::Result;
use crate::key::{Spec, Transform};

pub(super) struct Moved<T> {
    buffer: Buffer<T>,
    /// What values and their negatives add up to; absent where none is negated.
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
        self.buffer[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn prepare(&mut self, _plan: &Plan, _strip: Strip, len: usize) -> Result<()> {
        if let Some(sum) = self.sum {
            let (plain, negated) = self.buffer.split_at_mut(len);
            T::negate(plain, &mut negated[..len], sum);
        }
        Ok(())
    }

    fn give(&mut self, _piece: Piece, places: &[u32], to: &mut [T]) -> Result<()> {
        look_up(&self.buffer, places, to);
        Ok(())
    }
}
