//! Format-preserving encryption: replaces the pixels 0 to 255 at the masked places by other
//! numbers.

use crate::apply::plan::{Buffer, Direction, Engine, Piece, Places, Plan, Strip, buffer, look_up};
use crate::apply::real::each_channel;
use crate::apply::value::Value;
use crate::error::{Error, Result};
use crate::key::Spec;

/// Numbers of three digits.
const N_NUMBERS: usize = 1000;

/// Marks a number that FFX never makes, or that is not a pixel.
const NONE: u16 = u16::MAX;

/// How far a float may be from the whole number for which it stands, after scaling to pixels or
/// FFX's numbers.
const NEAR_PIXEL: f64 = 1e-3;
const NEAR_NUMBER: f64 = 0.1;

/// The replacements of pixels at the masked places.
pub(super) struct Tables {
    forwards: [u16; 256],
    backwards: Box<[u16; N_NUMBERS]>,
    /// The greatest replacement of a pixel, by which floats are divided.
    greatest: f64,
}

impl Tables {
    pub(super) fn new(forwards: &[u16; 256]) -> Tables {
        let mut backwards = Box::new([NONE; N_NUMBERS]);
        for (pixel, number) in (0..).zip(forwards) {
            if let Some(place) = backwards.get_mut(usize::from(*number)) {
                *place = pixel;
            }
        }
        let greatest = forwards.iter().max().copied().unwrap_or(1);
        Tables {
            forwards: *forwards,
            backwards,
            greatest: f64::from(greatest.max(1)),
        }
    }
}

pub(super) struct Ffx<'k> {
    buffer: Buffer<u16>,
    row: Vec<u16>,
    reals: Vec<f64>,
    tables: &'k Tables,
    direction: Direction,
    range: (f64, f64),
    statistics: Option<&'k [(f64, f64)]>,
}

impl<'k> Ffx<'k> {
    pub(super) fn new(
        spec: &Spec,
        tables: &'k Tables,
        direction: Direction,
        statistics: Option<&'k [(f64, f64)]>,
    ) -> Ffx<'k> {
        Ffx {
            buffer: buffer(0),
            row: Vec::new(),
            reals: Vec::new(),
            tables,
            direction,
            range: spec.range,
            statistics,
        }
    }

    /// Returns the integer for which a float stands.
    fn number(&self, value: f64) -> Result<u16> {
        let (low, high) = self.range;
        let (scaled, near, most) = match self.direction {
            Direction::Forwards => (255.0 * (value - low) / (high - low), NEAR_PIXEL, 255.0),
            Direction::Backwards => (value * self.tables.greatest, NEAR_NUMBER, 999.0),
        };
        let whole = scaled.round();
        // This refuses NaN too.
        if (scaled - whole).abs() <= near && (0.0..=most).contains(&whole) {
            return Ok(whole as u16);
        }
        Err(match self.direction {
            Direction::Forwards => misfit(format!(
                "{value} is none of the 256 pixels from {low} to {high}, which ffx takes"
            )),
            Direction::Backwards => misfit(format!("{value} is nothing that ffx makes")),
        })
    }

    /// Returns the float that stands for an integer.
    fn real(&self, number: u16) -> f64 {
        let (low, high) = self.range;
        match self.direction {
            Direction::Forwards => f64::from(number) / self.tables.greatest,
            Direction::Backwards => low + f64::from(number) * (high - low) / 255.0,
        }
    }
}

fn misfit(reason: String) -> Error {
    Error::Array { reason }
}

impl<A: Value, B: Value> Engine<A, B> for Ffx<'_> {
    fn take(&mut self, piece: Piece, from: &[A], at: usize) -> Result<()> {
        if A::IS_FLOAT {
            let mut reals = std::mem::take(&mut self.reals);
            reals.clear();
            reals.extend(from.iter().map(|value| value.to_f64()));
            each_channel(self.statistics, piece, &mut reals, |x, m, s| x * s + m);
            for (i, value) in reals.iter().enumerate() {
                self.buffer[at + i] = self.number(*value)?;
            }
            self.reals = reals;
            return Ok(());
        }
        let most = match self.direction {
            Direction::Forwards => 255,
            Direction::Backwards => N_NUMBERS as u16 - 1,
        };
        for (to, from) in self.buffer[at..at + from.len()].iter_mut().zip(from) {
            *to = from.to_f64() as u16;
            if *to > most {
                return Err(match self.direction {
                    Direction::Forwards => {
                        misfit(format!("{to} is no pixel that ffx takes: 0 to 255"))
                    }
                    Direction::Backwards => misfit(format!("{to} is nothing that ffx makes")),
                });
            }
        }
        Ok(())
    }

    fn prepare(&mut self, _plan: &Plan, _strip: Strip, len: usize) -> Result<()> {
        let (plain, masked) = self.buffer.split_at_mut(len);
        for (to, from) in masked.iter_mut().zip(plain) {
            let from = usize::from(*from);
            let found = match self.direction {
                Direction::Forwards => self.tables.forwards.get(from),
                Direction::Backwards => self.tables.backwards.get(from),
            };
            // Values past the end of a strip belong to another one.
            *to = found.copied().unwrap_or(NONE);
        }
        Ok(())
    }

    fn give(&mut self, piece: Piece, places: Places, to: &mut [B]) -> Result<()> {
        self.row.resize(to.len(), 0);
        look_up(&self.buffer, places, &mut self.row);
        if self.direction == Direction::Backwards && self.row.iter().any(|value| *value > 255) {
            return Err(misfit("a value is nothing that ffx makes".into()));
        }
        if !B::IS_FLOAT {
            for (to, from) in to.iter_mut().zip(&self.row) {
                *to = B::from_f64(f64::from(*from));
            }
            return Ok(());
        }
        let mut reals = std::mem::take(&mut self.reals);
        reals.clear();
        reals.extend(self.row.iter().map(|number| self.real(*number)));
        each_channel(self.statistics, piece, &mut reals, |y, m, s| (y - m) / s);
        for (to, from) in to.iter_mut().zip(&reals) {
            *to = B::from_f64(*from);
        }
        self.reals = reals;
        Ok(())
    }
}
