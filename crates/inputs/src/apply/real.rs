//! Transforms beyond moving and negating values, computed in 64-bit floats and rounded once at the
//! end.

use crate::apply::matrix::Mixer;
use crate::apply::plan::{Buffer, Engine, Piece, Places, Plan, Strip, buffer, look_up};
use crate::apply::value::Value;
use crate::error::Result;
use crate::key::{Spec, Transform};

pub(super) struct Real<'k> {
    buffer: Buffer<f64>,
    row: Vec<f64>,
    /// The sum of a value and its negative; absent if none is negated.
    sum: Option<f64>,
    mixer: Option<&'k Mixer>,
    statistics: Option<&'k [(f64, f64)]>,
}

impl<'k> Real<'k> {
    pub(super) fn new(
        spec: &Spec,
        mixer: Option<&'k Mixer>,
        statistics: Option<&'k [(f64, f64)]>,
    ) -> Real<'k> {
        Real {
            buffer: buffer(0.0),
            row: Vec::new(),
            sum: spec.has(Transform::Negative).then(|| spec.sum()),
            mixer,
            statistics,
        }
    }
}

impl<T: Value> Engine<T, T> for Real<'_> {
    fn take(&mut self, piece: Piece, from: &[T], at: usize) -> Result<()> {
        let to = &mut self.buffer[at..at + from.len()];
        to.iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to = from.to_f64());
        each_channel(self.statistics, piece, to, |x, m, s| x * s + m);
        Ok(())
    }

    fn prepare(&mut self, plan: &Plan, strip: Strip, len: usize) -> Result<()> {
        if let Some(mixer) = self.mixer {
            mixer.mix(plan, strip.n, &mut self.buffer[..len]);
        }
        if let Some(sum) = self.sum {
            let (plain, negated) = self.buffer.split_at_mut(len);
            for (to, from) in negated.iter_mut().zip(plain) {
                *to = sum - *from;
            }
        }
        Ok(())
    }

    fn give(&mut self, piece: Piece, places: Places, to: &mut [T]) -> Result<()> {
        self.row.resize(to.len(), 0.0);
        look_up(&self.buffer, places, &mut self.row);
        each_channel(self.statistics, piece, &mut self.row, |y, m, s| (y - m) / s);
        to.iter_mut()
            .zip(&self.row)
            .for_each(|(to, from)| *to = T::from_f64(*from));
        Ok(())
    }
}

/// Changes the values of a piece by the mean and deviation of their channels, if there are any.
pub(super) fn each_channel(
    statistics: Option<&[(f64, f64)]>,
    piece: Piece,
    values: &mut [f64],
    change: impl Fn(f64, f64, f64) -> f64,
) {
    let Some(statistics) = statistics else {
        return;
    };
    match piece {
        Piece::Of(channel) => {
            let (m, s) = statistics.get(channel).copied().unwrap_or((0.0, 1.0));
            values
                .iter_mut()
                .for_each(|value| *value = change(*value, m, s));
        }
        Piece::Mixed => {
            for pixel in values.chunks_mut(statistics.len().max(1)) {
                for (value, (m, s)) in pixel.iter_mut().zip(statistics) {
                    *value = change(*value, *m, *s);
                }
            }
        }
    }
}
